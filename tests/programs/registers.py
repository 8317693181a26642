"""Calls one kernel; prints what it gives, and which vector registers its machine code names."""

import json
import re

from call_sigmoid import kernels, out, z

kernels.sigmoid(z, out)
(code,) = kernels.sigmoid.inspect_asm().values()
registers = sorted(set(re.findall("[xyz]mm", code)))
print(json.dumps({"out": out.tolist(), "width": kernels.vector_bytes(), "registers": registers}))
