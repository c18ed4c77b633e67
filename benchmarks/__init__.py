"""Speed against what people use today: same work, same threads, interleaved in one run. Figures go to benchmarks/results/."""
