"""Reads what ptxas and nvdisasm said of the kernels: spills, registers, local memory, opcodes that kernels claim."""

import pathlib
import re
import sys

CLAIMS = [  # (kernels, opcode that their code must hold)
    (r"flat_scan_.*_mma|pairs_(cosine|dot|l2)_(u8|int8)", "IMMA"),
    (r"flat_scan_.*|pairs_.*|assign_.*|distances_.*", "LDGSTS"),
    (r"flat_scan_(cosine|dot|l2)_(u8|int8)_q[18]|(assign|distances|gather)_(cosine|dot|l2)_(u8|int8)", "IDP"),
    (r"rabitq_scan_.*", "POPC"),
]
ENTRY = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.S,
)


def main(work, table):
    lines = [line.split() for line in pathlib.Path(table).read_text().splitlines() if line[:1] not in ("", "#")]
    faults, n, most = [], 0, {}
    for log in sorted(pathlib.Path(work).glob("*.log")):
        code = {}
        for part in log.with_suffix(".sass").read_text().split(".section\t.text.")[1:]:
            code[re.match(r"\w+", part)[0]] = part
        for name, stack, stores, loads, registers in ENTRY.findall(log.read_text()):
            n += 1
            where = f"{log.stem}: {name}"
            budget = next(int(limit) for pattern, limit in lines if re.fullmatch(pattern, name))
            pattern = next(pattern for pattern, _ in lines if re.fullmatch(pattern, name))
            most[pattern] = max(most.get(pattern, 0), int(registers))
            if int(stack) or int(stores) or int(loads):
                faults.append(f"{where}: stack {stack}, spills {stores} and {loads} bytes")
            if int(registers) > budget:
                faults.append(f"{where}: {registers} registers, allowed {budget}")
            text = code.get(name, "")
            if re.search(r"\b(LDL|STL)\b", text):
                faults.append(f"{where}: local memory")
            faults += [f"{where}: no {op}" for kernels, op in CLAIMS if re.fullmatch(kernels, name) and not re.search(rf"\b{op}\b", text)]
    if n == 0:
        faults.append("no kernel was compiled")
    print("\n".join(faults) or f"kernels: {n} checked, most registers {most}")
    return 1 if faults else 0


sys.exit(main(*sys.argv[1:]))
