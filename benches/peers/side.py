"""One side of a comparison: does the work that it is told to, a repetition per line `run` on standard input.

    python side.py SPECIFICATION FOLDER

SPECIFICATION is JSON: implementation, threads, provider (whether this side writes FOLDER/inputs.safetensors or reads
it), work. Each line is answered by one line of JSON: `run` by seconds (and the seconds of parts), `report` by memory
and figures, `outputs` by what it wrote to FOLDER/IMPLEMENTATION.safetensors.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

import exchange
import memory


def make(specification: dict, folder: Path):
    """The work of a specification, prepared."""
    work = specification["work"]
    inputs = folder / "inputs.safetensors"
    match work["kind"]:
        case "conv2d":
            from conv2d import Convolutions

            return Convolutions(work, inputs)
        case "neuron":
            from neurons import Population

            return Population(work, inputs)
        case "bptt" | "ann":
            from training import Training

            return Training(work, inputs)
        case "convert":
            from inference import Converted

            return Converted(work, inputs)
        case "network":
            from inference import Stored

            return Stored(work, inputs)
    raise ValueError(f"no work {work['kind']} on this side")


def main() -> None:
    # the answers alone go to standard output, whatever a library prints
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    specification, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(specification["threads"])
    work = make(specification, folder)
    memory.release()
    can_reset = memory.reset_peak()
    before = memory.resident("VmRSS")
    answer(versions={name: version(name) for name in ("torch", "spikingjelly")})
    for line in sys.stdin:
        match line.strip():
            case "run":
                start = time.perf_counter()
                parts = work.run()
                answer(seconds=time.perf_counter() - start, parts=parts)
            case "report":
                peak = memory.resident("VmHWM") if can_reset else None
                answer(before_mib=before, peak_mib=peak, figures=work.figures())
            case "outputs":
                path = folder / f"{specification['implementation']}.safetensors"
                exchange.write(path, work.outputs())
                answer(written=str(path))
            case other:
                raise ValueError(f"no command {other!r}")


if __name__ == "__main__":
    main()
