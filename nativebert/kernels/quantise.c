/* Rows of x to unsigned bytes, each row by itself: 0 is its smallest value and 255 its largest. */

static void quantise(const float *x, size_t stride, int rows, int width, Quantised to)
{
    const int filled = (width + 3) / 4 * 4;
    for (int i = 0; i < rows; i++) {
        const float *row = x + i * stride;
        uint8_t *q = to.q + (size_t)i * filled;
        Vec low = broadcast(row[0]), high = low;
        int j = 0;
        for (; j + LANES <= width; j += LANES) {
            low = smaller(low, load(row + j));
            high = larger(high, load(row + j));
        }
        float least = smallest_of(low), most = largest_of(high);
        for (; j < width; j++) {
            least = row[j] < least ? row[j] : least;
            most = row[j] > most ? row[j] : most;
        }
        float range = most - least;
        int flat = range < 1e-30f; /* all values the same: 255 / range could be infinite */
        to.step[i] = flat ? 0.0f : range / 255.0f;
        to.least[i] = least;
        Vec inverse = broadcast(flat ? 0.0f : 255.0f / range);
        const Vec whole = broadcast(8388608.0f); /* 2^23: adding it rounds, and leaves the integer in the low bits */
        for (j = 0; j < width; j += LANES) {
            Vec scaled = (load_part(row + j, width - j) - least) * inverse + whole;
            ByteVec bytes = __builtin_convertvector((IntVec)scaled & 255, ByteVec);
            memcpy(q + j, &bytes, (size_t)(width - j < LANES ? width - j : LANES));
        }
        for (j = width; j < filled; j++)
            q[j] = 0;
    }
}
