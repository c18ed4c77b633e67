"""Tables to files, a batch of rows at a time: parquet, feather, csv, tsv, jsonl, npy. Needs pyarrow (extra ``tables``).

A column of vectors is an Arrow ``FixedSizeList`` in parquet and feather, columns ``d1`` to ``dN`` in csv and tsv, a list in jsonl, and all there is
in npy. Numbers are written with as many digits as bring the same float back. Other nested columns are JSON in the cells of csv and tsv.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from nativebert.errors import BadInputError
from nativebert.io.files import arrow
from nativebert.io.tables import schema_of
from nativebert.io.write import digits, output_stream

FORMATS = ("parquet", "feather", "csv", "tsv", "jsonl", "npy")
ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather"} | {
    f".{f}": f for f in FORMATS[2:]
}
METADATA = b"nativebert"  # key of the provenance in the schema of parquet and feather files


class Writer(Protocol):
    """Writes batches of one schema."""

    def write(self, batch: Any) -> None:
        """Write a ``pyarrow.RecordBatch``."""

    def close(self) -> None:
        """Write what stands at the end of a file."""


def is_vector(kind: Any) -> bool:
    """Whether a type of pyarrow is that of vectors: lists of numbers, all of one length."""
    types = arrow().types
    return bool(types.is_fixed_size_list(kind)) and bool(
        types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
    )


@contextmanager
def table_file(target: str, format: str, schema: Any, provenance: Mapping[str, Any] | None = None) -> Iterator[Writer]:
    """A writer of a file that replaces ``target`` once all is written and on the disk; on any error ``target`` stays as it was.

    Args:
        target: a path; ``-`` for standard output.
        format: one of :data:`FORMATS`.
        schema: of the batches, a ``pyarrow.Schema``.
        provenance: how the results were computed, for the metadata of parquet and feather files.

    Raises:
        BadInputError: it cannot be written; npy and a schema without one column of vectors.
        DiskFullError: no room.
    """
    if provenance is not None:
        schema = schema.with_metadata({METADATA: json.dumps(provenance, ensure_ascii=True)})
    with output_stream(target) as file:
        writer = _WRITERS[format](file, schema)
        yield writer
        writer.close()
        if target != "-":
            file.flush()
            os.fsync(file.fileno())


def schema_provenance(path: str) -> Mapping[str, Any] | None:
    """Provenance in the metadata of a parquet or feather file, or of the first of a folder; None where there is none."""
    record = (schema_of(path).metadata or {}).get(METADATA)
    return None if record is None else json.loads(record)


def format_of_target(target: str) -> str:
    """Format of an output file, from its extension.

    Raises:
        BadInputError: another ending.
    """
    format = ENDINGS.get(Path(target).suffix.lower())
    if format is None:
        raise BadInputError(f"unknown format of {target}: use one of the extensions {', '.join(ENDINGS)}")
    return format


class _Parquet:
    def __init__(self, file: IO[bytes], schema: Any) -> None:
        plain = [field.name for field in schema if not is_vector(field.type)]  # vectors have no values in common
        # without the options that differ between versions of pyarrow
        self._schema = schema
        self._writer = arrow("parquet").ParquetWriter(
            file, schema, compression="snappy", use_dictionary=plain, write_statistics=plain, version="2.6"
        )

    def write(self, batch: Any) -> None:
        self._writer.write_batch(batch.replace_schema_metadata(self._schema.metadata), row_group_size=max(1, len(batch)))

    def close(self) -> None:
        self._writer.close()


class _Feather:
    def __init__(self, file: IO[bytes], schema: Any) -> None:
        ipc = arrow("ipc")
        self._writer = ipc.new_file(file, schema, options=ipc.IpcWriteOptions(compression="lz4"))

    def write(self, batch: Any) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class _Csv:
    delimiter = ","

    def __init__(self, file: IO[bytes], schema: Any) -> None:
        pa, pc = arrow(), arrow("csv")
        fields = []
        for field in schema:
            if is_vector(field.type):
                fields += [pa.field(name, field.type.value_type) for name in _numbered(field, schema)]
            else:
                fields.append(pa.field(field.name, pa.string()) if pa.types.is_nested(field.type) else field)
        if any(pa.types.is_float16(field.type) for field in fields):
            fields = [pa.field(field.name, pa.float32()) if pa.types.is_float16(field.type) else field for field in fields]
        self._pa, self._schema = pa, pa.schema(fields)
        head = io.StringIO()
        csv.writer(head, delimiter=self.delimiter, lineterminator="\n").writerow(self._schema.names)
        file.write(head.getvalue().encode())
        options = pc.WriteOptions(include_header=False, delimiter=self.delimiter)
        self._writer = pc.CSVWriter(file, self._schema, write_options=options)

    def write(self, batch: Any) -> None:
        columns: list[Any] = []
        for values in batch.columns:
            if is_vector(values.type):
                rows = matrix(values)
                missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
                columns += [self._pa.array(np.ascontiguousarray(rows[:, n]), mask=missing) for n in range(rows.shape[1])]
            elif self._pa.types.is_nested(values.type):
                cells = (None if value is None else json.dumps(value, ensure_ascii=False) for value in values.to_pylist())
                columns.append(self._pa.array(cells, self._pa.string()))
            else:
                columns.append(values)
        columns = [values.cast(field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _Tsv(_Csv):
    delimiter = "\t"


class _Jsonl:
    def __init__(self, file: IO[bytes], schema: Any) -> None:
        self._file = file

    def write(self, batch: Any) -> None:
        columns = [_json_values(values) for values in batch.columns]
        keys = [f"{json.dumps(name, ensure_ascii=False)}: " for name in batch.schema.names]
        for row in zip(*columns, strict=True):
            self._file.write(f"{{{', '.join(map(str.__add__, keys, row))}}}\n".encode())

    def close(self) -> None:
        pass


class _Npy:
    def __init__(self, file: IO[bytes], schema: Any) -> None:
        vectors = [field for field in schema if is_vector(field.type)]
        if len(vectors) != 1:
            raise BadInputError(
                "a .npy file holds one matrix of vectors, and these results are none: use .parquet, .csv or .jsonl"
            )
        self._file, self._name, self._rows = file, vectors[0].name, 0
        self._width, self._dtype = vectors[0].type.list_size, np.dtype(vectors[0].type.value_type.to_pandas_dtype())
        self._header()

    def _header(self) -> None:
        # numpy leaves room in a header for any number of rows
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._rows, self._width)}
        np.lib.format.write_array_header_1_0(self._file, described)

    def write(self, batch: Any) -> None:
        values = batch.column(self._name)
        rows = matrix(values)
        if values.null_count:
            rows = rows.copy()
            rows[values.is_null().to_numpy(zero_copy_only=False)] = np.nan if rows.dtype.kind == "f" else 0
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self._rows += len(rows)

    def close(self) -> None:
        end = self._file.tell()
        self._file.seek(0)
        self._header()
        self._file.seek(end)


_WRITERS: dict[str, Any] = {"parquet": _Parquet, "feather": _Feather, "csv": _Csv, "tsv": _Tsv, "jsonl": _Jsonl, "npy": _Npy}


def matrix(values: Any) -> np.ndarray[Any, Any]:
    """Vectors of an Arrow array, ``(n, width)``; what stands in rows that are null is anything."""
    width = values.type.list_size
    flat = values.values.slice(values.offset * width, len(values) * width)
    rows: np.ndarray[Any, Any] = flat.to_numpy(zero_copy_only=False).reshape(len(values), width)
    return rows


def _numbered(field: Any, schema: Any) -> list[str]:
    """Columns of a vector: ``d1`` to ``dN``, after the column's name where there are several vectors."""
    before = "d" if sum(is_vector(other.type) for other in schema) == 1 else f"{field.name}_"
    return [f"{before}{n + 1}" for n in range(field.type.list_size)]


def _json_values(values: Any) -> list[str]:
    if not is_vector(values.type) or not arrow().types.is_floating(values.type.value_type):
        return [json.dumps(value, ensure_ascii=False, default=str) for value in values.to_pylist()]
    missing = values.is_null().to_pylist()
    return ["null" if none else f"[{', '.join(map(digits, row))}]" for none, row in zip(missing, matrix(values).tolist())]
