"""China's provincial units: GB/T 2260 codes, English names and the training group of each."""

from __future__ import annotations

from typing import NamedTuple


class Province(NamedTuple):
    """A provincial unit: `code` is the six-digit GB/T 2260 code."""

    code: str
    name: str
    group: str


PROVINCES: tuple[Province, ...] = tuple(
    Province(f"{code}0000", name, group)
    for group, members in {
        "north": {11: "Beijing", 12: "Tianjin", 13: "Hebei", 14: "Shanxi", 15: "Inner Mongolia"},
        "northeast": {21: "Liaoning", 22: "Jilin", 23: "Heilongjiang"},
        "east": {31: "Shanghai", 32: "Jiangsu", 33: "Zhejiang", 34: "Anhui", 37: "Shandong"},
        "central": {36: "Jiangxi", 41: "Henan", 42: "Hubei", 43: "Hunan"},
        "south": {
            35: "Fujian",
            44: "Guangdong",
            45: "Guangxi",
            46: "Hainan",
            71: "Taiwan",
            81: "Hong Kong",
            82: "Macao",
        },
        "southwest": {50: "Chongqing", 51: "Sichuan", 52: "Guizhou", 53: "Yunnan", 54: "Tibet"},
        "northwest": {61: "Shaanxi", 62: "Gansu", 63: "Qinghai", 64: "Ningxia", 65: "Xinjiang"},
    }.items()
    for code, name in members.items()
)
"""Codes: GB/T 2260-2007. Groups: the customary geographic regions."""
BY_CODE = {p.code: p for p in PROVINCES}
BY_NAME = {p.name: p for p in PROVINCES}
OUTSIDE_CN = frozenset({"710000", "810000", "820000"})
"""Listed by themselves and not part of `CN`, the 31 mainland provinces."""


def gb_code(code: str) -> str:
    """The six-digit GB/T 2260 form of a code: ``CN011``, ``11``, ``110000`` become ``110000``; others stay."""
    text = str(code).strip()
    digits = text.removeprefix("CN").lstrip("0")
    if digits.isdigit() and len(digits) == 2:
        return f"{digits}0000"
    return text


def in_cn(code: str) -> bool:
    """Whether a region counts to `CN`; a code that is no province's (a regional world's own) does."""
    return gb_code(code) not in OUTSIDE_CN
