"""Calls one kernel; prints what it gives, and which vector registers its machine code names."""

import json
import re

from call_sigmoid import kernels, out, z

from fastbp.kernels import numba_link

kernels.sigmoid(z, out)
codes = [*kernels.sigmoid.inspect_asm().values()]
codes += [routine.get_asm_str() for routine in numba_link._ROUTINES.values()]
registers = sorted({name for code in codes for name in re.findall("[xyz]mm", code)})
print(json.dumps({"out": out.tolist(), "width": kernels.vector_bytes(), "registers": registers}))
