"""Print the lowest version of each requirement that pyproject.toml admits, a pin a line, for an environment at the bounds.

The test tools of the extra `dev` are left out: they run the tests, and are no part of what users install.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

BOUND = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\d.]+)")


def pins(project: dict) -> list[str]:
    """`name==lower bound` of the requirements of a [project] table and its extras but `dev`."""
    wanted = [*project["dependencies"]]
    wanted += [one for name, many in project["optional-dependencies"].items() if name != "dev" for one in many]
    found = [BOUND.fullmatch(one) for one in wanted]
    return sorted({f"{one[1]}=={one[2]}" for one in found if one})


if __name__ == "__main__":
    file = Path(__file__).parent.parent / "pyproject.toml"
    print("\n".join(pins(tomllib.loads(file.read_text(encoding="utf-8"))["project"])))
