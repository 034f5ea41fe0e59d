"""Settings of a run: flag > environment `CARBONCUBE_*` > YAML `--config` > default, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.core.ancestry import split_names
from pipeline.core.errors import UsageError
from pipeline.core.grid import Grid, domain_grid
from pipeline.core.options import ClusterOptions, InversionOptions, PriorOptions, StorageOptions, TransportOptions

PREFIX = "CARBONCUBE_"
DEFAULT_STORE = "./data"
_TEXTS = ("year", "months", "domain", "store", "scheduler", "independent_of")
"""Settings whose text in the environment is read as it is."""
FIRST_YEAR, LAST_YEAR = 2000, 2100


def _numbers(value: Any, lowest: int, highest: int, what: str) -> tuple[int, ...]:
    """Read ``2022``, ``2019,2021``, ``2019-2023`` or a list as sorted whole numbers within bounds."""
    parts = [value] if isinstance(value, int) else value.split(",") if isinstance(value, str) else list(value)
    numbers: set[int] = set()
    for part in parts:
        first, dash, last = str(part).strip().partition("-")
        if not first.isdigit() or (dash and not last.strip().isdigit()):
            raise ValueError(f"{what} {part!r}: expected a number, a list or a range such as {lowest}-{highest}")
        numbers |= set(range(int(first), int(last or first) + 1))
    if not numbers:
        raise ValueError(f"{what} {value!r} names nothing: a range runs from the lower to the higher number")
    if min(numbers) < lowest or max(numbers) > highest:
        raise ValueError(f"{what} {value!r}: expected {lowest}..{highest}")
    return tuple(sorted(numbers))


Years = Annotated[tuple[int, ...], BeforeValidator(lambda v: _numbers(v, FIRST_YEAR, LAST_YEAR, "year"))]
Months = Annotated[tuple[int, ...], BeforeValidator(lambda v: _numbers(v, 1, 12, "month"))]


def _names(value: Any) -> tuple[str, ...]:
    """Read ``meic,edgar``, ``none`` or a list as names in lower case."""
    names = split_names(value)
    return () if names == ["none"] else tuple(names)


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Settings(BaseModel):
    """Everything a run depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    year: Years = Field(description="year(s): 2022, 2019,2021 or 2019-2023")
    months: Months = Field(default=tuple(range(1, 13)), description="months of each year")
    domain: str = Field(default="china", description="named domain or W,S,E,N in degrees")
    store: str = Field(default=DEFAULT_STORE, description="address of the store")
    storage: StorageOptions = Field(default=StorageOptions(), description="how an object store is reached")
    scheduler: str = Field(default="local", description="local, kubernetes, or the address of a scheduler")
    workers: int = Field(default=0, ge=0, le=4096, description="worker processes; 0: as many as cores and memory allow")
    memory_limit: str = Field(default="auto", description="memory of a local worker, for example 4GiB")
    fine: bool = Field(default=True, description="make the 1 km product too")
    learn: bool = Field(default=True, description="learn per region where nothing was observed")
    report: bool = Field(default=True, description="write the report")
    seed: int = Field(default=0, ge=0, description="of all random numbers")
    independent_of: Names = Field(
        default=("meic",), description="inventories the product is compared with; no input may descend from them"
    )
    transport: TransportOptions = Field(default=TransportOptions())
    prior: PriorOptions = Field(default=PriorOptions())
    inversion: InversionOptions = Field(default=InversionOptions())
    cluster: ClusterOptions = Field(default=ClusterOptions())

    @property
    def grid(self) -> Grid:
        """The coarse cells of the domain."""
        return domain_grid(self.domain)

    @property
    def whole_year(self) -> bool:
        """Whether the run makes whole national years."""
        return len(self.months) == 12 and self.grid == domain_grid("china")

    def shown(self) -> dict[str, Any]:
        """As plain values, for printing and for provenance; no setting is a secret."""
        return self.model_dump(mode="json")

    def science(self) -> dict[str, Any]:
        """What results depend on: all but where the run happens and what is refused."""
        elsewhere = {"storage", "store", "scheduler", "workers", "memory_limit", "cluster", "report", "independent_of"}
        return self.model_dump(mode="json", exclude=elsewhere)

    def physics(self) -> dict[str, Any]:
        """What a unit's own result depends on besides its inputs, through which one month hears of others."""
        return {k: v for k, v in self.science().items() if k not in ("year", "months", "fine", "learn")}

    def unsolved(self) -> dict[str, Any]:
        """`physics` of what is done before anything is solved: a reduced state has it in common with the whole one."""
        physics = self.physics()
        return {**physics, "inversion": {k: v for k, v in physics["inversion"].items() if k != "leaves"}}


def load(flags: Mapping[str, Any], config: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Bring the sources of settings together.

    Parameters
    ----------
    flags : what the command line gave; `None` means not given.
    config : path of a YAML file.
    environ : the environment; nested settings as ``CARBONCUBE_INVERSION__MEMBERS``.

    Raises
    ------
    UsageError : unknown key, impossible value, unreadable file.
    """
    merged: dict[str, Any] = {}
    for source in (_from_yaml(config), _from_environment(os.environ if environ is None else environ)):
        _merge(merged, source)
    _merge(merged, {key: value for key, value in flags.items() if value is not None})
    if "year" not in merged:
        raise UsageError("no year", "--year 2022, a list or 2019-2023", "name the year(s) to build")
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise UsageError(_first_problem(error), remedy="see --help and --print-config") from None
    domain_grid(settings.domain)
    return settings


def load_place(
    store: str | None = None, config: str | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, StorageOptions]:
    """Where the store is and how it is reached, for command lines that need no more; as `load`."""
    settings = load({"year": LAST_YEAR, "store": store}, config, environ)
    return settings.store, settings.storage


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=True)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    # Somebody may have put a key where none belongs.
    seen = "" if where.startswith("storage") else f" = {first['input']!r}"
    return f"setting {where}{seen}: {message}"


def _from_yaml(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"config {path} cannot be read ({error})", "a YAML file of settings") from None
    if not isinstance(content, dict):
        raise UsageError(f"config {path} holds {type(content).__name__}", "a mapping of settings; see --print-config")
    return content


def load_cluster(environ: Mapping[str, str] | None = None) -> ClusterOptions:
    """How a cluster is reached, from the environment, for command lines that take no other settings; as `load`."""
    found = _from_environment(os.environ if environ is None else environ).get("cluster", {})
    try:
        return TypeAdapter(ClusterOptions).validate_python(found)
    except ValidationError as error:
        raise UsageError(_first_problem(error), remedy=f"see {PREFIX}CLUSTER__*") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, text in environ.items():
        key = name.removeprefix(PREFIX).lower()
        head, *nested = key.split("__")
        if not name.startswith(PREFIX) or head not in Settings.model_fields:
            continue
        value: Any = (
            text
            if head in ("year", "months", "domain", "store", "scheduler", "independent_of")
            else yaml.safe_load(text)
        )
        for part in reversed(nested):
            value = {part: value}
        _merge(result, {head: value})
    return result


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value
