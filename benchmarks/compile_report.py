"""The compiled code of every kernel: registers, spills, shared memory and the width of loads and stores.

    python benchmarks/compile_report.py [--out benchmarks/results] [--sass FOLDER]

Every Triton kernel of kernels/ is compiled for sm_80, sm_90 and sm_100 at the tiles it is launched with; no GPU is
needed: compiler and disassembler come with Triton (tried with 3.6 and 3.9). Liger's cross-entropy kernel is
compiled too where liger_kernel can be imported. Nothing is run or timed. Writes compile.json; fails if a kernel of
ours spills or is not in the table of kernels below.

Widths are bytes that one instruction moves for one thread: `16 x 4` is four 16-byte instructions. Those inside loops
are also counted separately: in a kernel with loops they carry most of its traffic.
"""

import argparse
import ast
import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from harness.record import environment

ARCHITECTURES = (80, 90, 100)
KERNELS = Path(__file__).resolve().parents[1] / "kernels"
REGISTERS, MAX_WARPS = 65_536, 64  # of a multiprocessor, on all three architectures

# Attribute of arguments that are divisible by 16, as pointers of torch's allocator and real widths are.
ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Entry:
    """One kernel as it is launched.

    Attributes:
        kernel: name of the @triton.jit function.
        variant: what distinguishes this launch of it.
        arguments: by name: a string is the Triton type of a run-time argument, with `:16` where it is divisible by 16;
            anything else is the value of a constexpr.
        options: num_warps and other compiler options.
        first: the first architecture that it is compiled for.
    """

    kernel: str
    variant: str
    arguments: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    first: int = 80


def weighted_cross_entropy(module: Any) -> Iterator[Entry]:
    """Row kernels at real vocabularies, and at an odd one whose rows are padded to 16 elements."""
    rows: dict[str, Any] = {"y_ptr": "*i64:16", "w_ptr": "*fp32:16", "lse_ptr": "*fp32:16", "saved_ptr": "*fp32:16"}
    for dtype, size, vocabulary in (("bf16", 2, "i32:16"), ("fp32", 4, "i32:16"), ("bf16", 2, "i32")):
        variant = f"{dtype} V=152,064" if vocabulary == "i32:16" else f"{dtype} odd V"
        common = rows | {"x_ptr": f"*{dtype}:16", "x_stride": "i32:16", "V": vocabulary}
        tile, options = _split(module._tile(152_064, size))
        forward = common | {"nll_ptr": "*fp32:16", "EVERY_NLL": True} | tile
        yield Entry("_forward_kernel", f"in-place gradient, {variant}", forward | {"GRADIENT": True}, options)
        yield Entry("_forward_kernel", f"losses only, {variant}", forward | {"GRADIENT": False}, options)
        backward = common | {"g_ptr": "*fp32:16", "dx_ptr": f"*{dtype}:16", "dx_stride": "i32:16"} | tile
        yield Entry("_backward_kernel", variant, backward, options)


def rms_norm(module: Any) -> Iterator[Entry]:
    """The norm with and without the residual, at the widths of the 7B, of a Qwen3 head and of the 32B."""
    for width, residual in ((3584, True), (3584, False), (128, False), (5120, True)):
        other = "*bf16:16" if residual else None
        rows, block, warps = module._tile(width)
        tile = {"D": width, "ROWS": rows, "BLOCK_D": block}
        names = ("x_ptr", "weight_ptr", "y_ptr", "dy_ptr", "h_ptr", "dx_ptr")
        arguments: dict[str, Any] = dict.fromkeys(names, "*bf16:16") | {"residual_ptr": other, "dh_ptr": other}
        arguments |= {"rstd_ptr": "*fp32:16", "partial_ptr": "*fp32:16", "num_rows": "i32", "eps": "fp32"}
        strides = dict.fromkeys(("x_stride", "residual_stride", "dy_stride", "dh_stride", "h_stride"), "i32:16")
        arguments |= strides | tile
        variant = f"bf16 D={width:,}" + (", with residual" if residual else "")
        forward_h = {} if residual else {"h_ptr": None}
        yield Entry("_forward_kernel", variant, arguments | forward_h, {"num_warps": warps})
        yield Entry("_backward_kernel", variant, arguments, {"num_warps": warps})


def swiglu(module: Any) -> Iterator[Entry]:
    """The forward, and the backward with and without computing the product again."""
    names = ("gate_ptr", "up_ptr", "dy_ptr", "dgate_ptr", "dup_ptr", "y_ptr")
    pointers = dict.fromkeys(names, "*bf16:16")
    strides = {name.replace("_ptr", "_stride"): "i32:16" for name in names}
    arguments: dict[str, Any] = pointers | strides | {"width": "i32:16", "num_blocks": "i32", "BLOCK": module.BLOCK}
    options = {"num_warps": module.WARPS}
    yield Entry("_forward_kernel", "bf16", arguments, options)
    yield Entry("_backward_kernel", "bf16, with the product", arguments, options)
    yield Entry("_backward_kernel", "bf16", arguments | {"y_ptr": None}, options)


def rope(module: Any) -> Iterator[Entry]:
    """Heads of the 1.5B, the 7B and the 32B; the other models have numbers of heads in between."""
    sides = ("query", "key", "query_out", "key_out")
    common: dict[str, Any] = {f"{side}_ptr": "*bf16:16" for side in sides} | {
        "cos_ptr": "*fp32:16",
        "sin_ptr": "*fp32:16",
    }
    kinds = ("batch_stride", "head_stride", "stride")
    strides = {f"{side}_{kind}": "i32:16" for side in sides for kind in kinds}
    common |= strides | {"table_batch_stride": "i32:16", "table_stride": "i32:16", "sign": "fp32"}
    common |= {"num_tokens": "i32", "num_query_programs": "i32"}
    half = 64
    common |= {"HALF": half, "ROWS": max(1, module.TILE // half), "BLOCK_HALF": half}
    for query, key in ((12, 2), (28, 4), (40, 8)):
        heads = {"NUM_QUERY_HEADS": query, "NUM_KEY_HEADS": key}
        yield Entry("_rotate_kernel", f"bf16 {query} + {key} heads", common | heads, {"num_warps": module.WARPS})


def adamw(module: Any) -> Iterator[Entry]:
    """The layouts in the docstring of kernels/adamw.py."""
    common: dict[str, Any] = dict.fromkeys(("num_elements", "offset", "seed"), "i64") | {"step": "i32"}
    rates = ("one_minus_beta1", "beta2", "one_minus_beta2", "root_scale", "eps", "step_size", "decay")
    common |= dict.fromkeys(rates, "fp32")
    common |= {"clip_ptr": "*fp32:16", "MASKED": False, "BLOCK": module.BLOCK, "ROUNDS": module.ROUNDS}
    layouts = {
        "fp32": ("fp32", None, "fp32", "fp32"),
        "bf16 and low bits, fp32 moments": ("bf16", "i16", "bf16", "fp32"),
        "bf16 and low bits": ("bf16", "i16", "bf16", "bf16"),
        "bf16, stochastic rounding": ("bf16", None, "bf16", "bf16"),
    }
    for variant, (param, low, grad, moments) in layouts.items():
        types = {"param_ptr": param, "grad_ptr": grad, "exp_avg_ptr": moments, "exp_avg_sq_ptr": moments}
        pointers = {name: f"*{dtype}:16" for name, dtype in types.items()}
        arguments = common | pointers | {"low_ptr": low and f"*{low}:16"}
        yield Entry("_adamw_kernel", variant, arguments, {"num_warps": module.NUM_WARPS, "enable_fp_fusion": False})


def span_weights(module: Any) -> Iterator[Entry]:
    """The table of the engine's ten roles, with each denominator."""
    arguments: dict[str, Any] = {"x_ptr": "*i64:16", "role_ptr": "*u8:16", "bounds_ptr": "*i32:16"}
    arguments |= {"table_ptr": "*fp32:16", "label_ptr": "*i64:16", "label_role_ptr": "*u8:16", "w_ptr": "*fp32:16"}
    arguments |= {"sums_ptr": "*fp64:16", "counter_ptr": "*i32:16", "P": 10, "ROLES": 16, "TOKENS": module.TILE // 16}
    for per in ("weight", "token", "example"):
        yield Entry("_span_weights_kernel", f"per {per}", arguments | {"PER": per}, {"num_warps": module.WARPS})


def float8(module: Any) -> Iterator[Entry]:
    """Rows with and without factors, and a weight turned; as bytes where the architecture has no float8 casts."""
    sizes: dict[str, Any] = {"x_stride": "i32:16", "q_stride": "i32:16", "width": "i32:16", "num_rows": "i32"}
    for dtype, pointer in ((module.E4M3, "*fp8e4nv:16"), (module.E5M2, "*fp8e5:16"), (module.E4M3, "*u8:16")):
        common = sizes | module._constants(module.FORMATS[dtype])
        common |= {"x_ptr": "*bf16:16", "q_ptr": pointer, "scale_ptr": "*fp32:16", "given_ptr": "*bf16:16"}
        first = 80 if pointer == "*u8:16" else 90
        kind = pointer.strip("*:16")
        rows = common | {"factor_ptr": None, "BLOCK": module.BLOCK}
        options = {"num_warps": module.ROW_WARPS}
        yield Entry("_rows_kernel", kind, rows, options, first)
        yield Entry("_rows_kernel", f"{kind}, factors", rows | {"factor_ptr": "*fp32:16"}, options, first)
        tile = common | {"ROWS": module.TILE_ROWS, "COLUMNS": module.TILE_COLUMNS}
        given = {"scale_ptr": None, "given_ptr": "*fp32:16", "TRANSPOSED": True}
        options = {"num_warps": module.TILE_WARPS}
        yield Entry("_cast_kernel", f"{kind}, whole", tile | {"TRANSPOSED": False}, options, first)
        yield Entry("_cast_kernel", f"{kind}, rows turned", tile | given, options, first)


def liger_cross_entropy(module: Any) -> Iterator[Entry]:
    """Liger's row kernel as its fused linear cross-entropy launches it: in place, summed, no class weights."""
    names = ("weight_ptr", "z_loss_ptr", "token_accuracy_ptr", "predicted_tokens_ptr", "softcap")
    flags = ("RETURN_Z_LOSS", "RETURN_TOKEN_ACCURACY", "RETURN_PREDICTED_TOKENS", "HAS_WEIGHT", "HAS_SOFTCAPPING")
    sizes: dict[str, Any] = {
        "X_stride": "i32:16",
        "n_cols": "i32:16",
        "n_non_ignore": "i32",
        "sum_non_ignore_weight": "i32",
    }
    sizes |= {"Y_stride": 1, "loss_stride": 1, "token_accuracy_stride": 0, "predicted_tokens_stride": 0}
    numbers: dict[str, Any] = {
        "weight_sum": "fp32",
        "ignore_index": "i32",
        "lse_square_scale": 0.0,
        "label_smoothing": 0.0,
    }
    for dtype in ("bf16", "fp32"):
        pointers = {"X_ptr": f"*{dtype}:16", "Y_ptr": "*i64:16", "loss_ptr": f"*{dtype}:16"}
        arguments = pointers | dict.fromkeys(names) | sizes | numbers | dict.fromkeys(flags, False)
        arguments |= {"reduction": "sum", "HAS_GRADIENTS": True, "BLOCK_SIZE": module.MAX_FUSED_SIZE}
        yield Entry("liger_cross_entropy_kernel", f"in-place gradient, {dtype} V=152,064", arguments, {"num_warps": 32})


# One function a kernel file; modules are imported only when they are compiled.
TABLE: dict[str, Callable[[Any], Iterator[Entry]]] = {
    "alttrain.kernels.weighted_cross_entropy": weighted_cross_entropy,
    "alttrain.kernels.rms_norm": rms_norm,
    "alttrain.kernels.swiglu": swiglu,
    "alttrain.kernels.rope": rope,
    "alttrain.kernels.adamw": adamw,
    "alttrain.kernels.span_weights": span_weights,
    "alttrain.kernels.float8": float8,
    "liger_kernel.ops.cross_entropy": liger_cross_entropy,
}


def _split(launch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a launcher's keywords into constexprs, which are in capitals, and the compiler's options."""
    constexprs = {name: value for name, value in launch.items() if name.isupper()}
    return constexprs, {name: value for name, value in launch.items() if name not in constexprs}


@dataclass(frozen=True)
class Row:
    """The compiled code of one kernel on one architecture; widths map bytes to numbers of instructions."""

    file: str
    kernel: str
    variant: str
    architecture: str
    num_warps: int
    registers: int
    spill_bytes: int  # of a thread's local memory, which only spills use here
    spill_instructions: int
    shared_bytes: int
    resident_warps: int  # per multiprocessor, as limited by registers
    instructions: int
    loads: dict[int, int]
    stores: dict[int, int]
    loads_in_loops: dict[int, int]
    stores_in_loops: dict[int, int]


def compile_entry(module: Any, entry: Entry, architecture: int) -> tuple[bytes, int]:
    """Return the machine code (a cubin) and the bytes of shared memory.

    Raises:
        KeyError: the entry lacks an argument of the kernel.
    """
    function = getattr(module, entry.kernel)
    signature, constexprs, attributes = {}, {}, {}
    for index, name in enumerate(function.arg_names):
        value = entry.arguments[name]
        # `constexpr` parameters may be strings too, so the kernel's own annotation decides.
        if isinstance(value, str) and not function.params[index].is_constexpr:
            signature[name], _, divisor = value.partition(":")
            if divisor:
                attributes[(index,)] = ALIGNED
        else:
            signature[name] = "constexpr"
            constexprs[name] = value
    source = ASTSource(function, signature, constexprs, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=dict(entry.options))
    return compiled.asm["cubin"], compiled.metadata.shared


def _tool(name: str, *arguments: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([str(tool), *arguments], capture_output=True, text=True, check=True).stdout


def _widths(lines: list[str], opcode: str) -> dict[int, int]:
    """Count the instructions of `opcode` (LDG or STG; loads include the asynchronous LDGSTS) by bytes."""
    found: Counter[int] = Counter()
    for line in lines:
        match = re.search(rf"\b{opcode}(?:STS)?((?:\.[A-Z0-9]+)+) ", line)
        if match:
            parts = match[1].split(".")
            narrow = 1 if {"U8", "S8"} & set(parts) else 2 if {"U16", "S16"} & set(parts) else 4
            found[next((int(part) // 8 for part in parts if part in ("64", "128", "256")), narrow)] += 1
    return dict(sorted(found.items(), reverse=True))


def _in_loops(lines: list[str]) -> list[str]:
    """Return the lines between a label and a later branch back to it."""
    labels: dict[str, int] = {}
    inside: set[int] = set()
    for index, line in enumerate(lines):
        if match := re.match(r"(\.L_x_\d+):", line):
            labels[match[1]] = index
        elif (match := re.search(r"\bBRA.*`\((\.L_x_\d+)\)", line)) and match[1] in labels:
            start = labels[match[1]]
            if index - start > 1:  # the last branch of a program is to itself
                inside |= set(range(start, index))
    return [lines[index] for index in sorted(inside)]


def inspect(file: str, module: Any, entry: Entry, architecture: int, sass_folder: Path | None) -> Row:
    """Compile one kernel for one architecture and read its machine code."""
    cubin, shared_bytes = compile_entry(module, entry, architecture)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as handle:
        handle.write(cubin)
        handle.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", handle.name)
        sass = _tool("nvdisasm", "-c", handle.name)
    if sass_folder is not None:
        name = re.sub(r"\W+", "_", f"{file}{entry.kernel}_{entry.variant}_sm_{architecture}")
        (sass_folder / f"{name}.sass").write_text(sass)
    used = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    lines = sass.splitlines()
    hot = _in_loops(lines)
    num_warps = entry.options.get("num_warps", 4)
    registers_per_program = (
        -(-used["REG"] // 8) * 8 * 32 * num_warps
    )  # registers are allocated in units of eight per thread
    return Row(
        file=file,
        kernel=entry.kernel,
        variant=entry.variant,
        architecture=f"sm_{architecture}",
        num_warps=num_warps,
        registers=used["REG"],
        spill_bytes=used["STACK"] + used["LOCAL"],
        spill_instructions=sum(bool(re.search(r"\b(LDL|STL)[. ]", line)) for line in lines),
        shared_bytes=shared_bytes,
        resident_warps=min(REGISTERS // registers_per_program, MAX_WARPS // num_warps) * num_warps,
        instructions=sum(bool(re.match(r"\s+/\*[0-9a-f]{4,}\*/", line)) for line in lines),
        loads=_widths(lines, "LDG"),
        stores=_widths(lines, "STG"),
        loads_in_loops=_widths(hot, "LDG"),
        stores_in_loops=_widths(hot, "STG"),
    )


def unlisted(rows: list[Row]) -> list[str]:
    """Return the kernels of kernels/ (functions whose names end in _kernel) that have no row."""
    known = {(row.file, row.kernel) for row in rows}
    missing = []
    for path in sorted(KERNELS.glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel"):
                is_kernel = any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list)
                if is_kernel and (path.stem, node.name) not in known:
                    missing.append(f"{path.name}: {node.name}")
    return missing


def _spills(row: Row) -> bool:
    return row.spill_bytes + row.spill_instructions > 0


def _print(row: Row) -> None:
    def widths(total: dict[int, int], looped: dict[int, int]) -> str:
        return " ".join(f"{size} x {n}" + (f" ({looped[size]})" if size in looped else "") for size, n in total.items())

    print(
        f"{row.architecture:6} {row.file + '.' + row.kernel:44} {row.variant:40} warps {row.num_warps:2}  "
        f"REG {row.registers:3}  spill {row.spill_bytes:4}  shared {row.shared_bytes:6}  "
        f"loads {widths(row.loads, row.loads_in_loops)}  stores {widths(row.stores, row.stores_in_loops)}",
        flush=True,
    )


def main() -> int:
    """Compile, print a line a kernel, write compile.json; 1 if a kernel of ours spills or is not in the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of compile.json")
    parser.add_argument("--sass", type=Path, help="folder for the disassembled kernels")
    options = parser.parse_args()
    for folder in filter(None, (options.out, options.sass)):
        folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    print("widths: bytes x instructions (of them in loops)")
    for name, entries in TABLE.items():
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            print(f"{name}: skipped, {error}")
            continue
        for entry in entries(module):
            for architecture in (each for each in ARCHITECTURES if each >= entry.first):
                rows.append(inspect(name.split(".")[-1], module, entry, architecture, options.sass))
                _print(rows[-1])
    text = json.dumps({"environment": environment(), "rows": [asdict(row) for row in rows]}, indent=1)
    (options.out / "compile.json").write_text(text + "\n", encoding="utf-8")
    ours = [row for row in rows if f"alttrain.kernels.{row.file}" in TABLE]
    failures = [f"{row.file}.{row.kernel} spills on {row.architecture}: {row.variant}" for row in ours if _spills(row)]
    failures += [f"{name}: not in the table" for name in unlisted(ours)]
    print(
        "\n".join(failures) or f"no spill in {len({(row.file, row.kernel) for row in ours})} kernels, {len(ours)} rows"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
