"""Where étude differs from timm's layer ids on purpose, by module: read off timm's forward, one by one."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Otherwise(NamedTuple):
    """Parameters of a module that timm ranks otherwise, and why."""

    module: str
    pattern: str
    why: str


_NEXT = (
    "what leads into a stage is a layer of its own by timm, and goes with that stage's first block by étude"
)
_LAST = "what joins two stages goes with the block before it by timm, and with the one after it by étude"
_CLASS = (
    "timm gives the blocks for the class token the ids of the last two others, though they run after them"
)
_SHARED = (
    "timm's matcher does not know these tables of positions, so they are in its head; all blocks use them"
)

OTHERWISE = (
    Otherwise("cait", r"blocks_token_only\.", _CLASS),
    Otherwise("coat", r"(patch_embed|cls_token)[2-4]|(cpe|crpe)\d", _NEXT),
    Otherwise("densenet", r"features\.transition\d", _LAST),
    Otherwise("hrnet", r"transition\d", _LAST),
    Otherwise("inception_resnet_v2", r"mixed_[67]a\.", _NEXT),
    Otherwise("volo", r"network\.\d\.proj\.", _NEXT),
    Otherwise("", r"rope\.freqs|shared_rel_pos", _SHARED),
)

# Modules whose `default_cfg` lacks a part of the head, for some names; it depends on the classes too.
HEADS = {"levit": ("head_dist.linear",)}

# Modules whose blocks take what two blocks before them give, and one whose weights pass through a
# normalisation of their own, where a pass loses what feeds them.
CROSSED = {"nasnet", "pnasnet", "nfnet"}


def names(module: str, of: Iterable[str]) -> set[str]:
    """Those of some parameters of a module that timm ranks otherwise."""
    patterns = [one.pattern for one in OTHERWISE if one.module in ("", module)]
    return {name for name in of if any(re.match(pattern, name) for pattern in patterns)}
