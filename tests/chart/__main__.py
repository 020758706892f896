"""`make chart`: README, strict lint, the matrix of values, every object against its schema."""

from __future__ import annotations

import sys
from collections import Counter

from .readme import README, readme
from .rendering import lint, matrix, render
from .schemas import KUBERNETES, is_custom, missing_tools, problems


def main() -> int:
    """Exit code 1 if anything is wrong; prints what was validated."""
    lacking = missing_tools()
    if lacking:
        sys.stdout.write(f"{lacking}\n")
        return 1
    README.write_text(readme())
    wrong: list[str] = []
    for name, values in matrix().items():
        documents = render(values)
        found = [*lint(values), *problems(documents)]
        kinds = Counter(each["kind"] for each in documents)
        custom = sum(is_custom(each) for each in documents)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        sys.stdout.write(
            f"{name}: {len(documents)} objects, {custom} of them custom resources "
            f"({told}): {len(found)} problems\n"
        )
        wrong += [f"  {name}: {each}" for each in found]
    sys.stdout.write(
        f"validated by the schemas of Kubernetes {' and '.join(KUBERNETES)}, and of cert-manager, "
        "the Gateway API, KEDA and the Prometheus operator\n"
    )
    sys.stdout.writelines(f"{each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
