"""A run's Config as a flat list of options, and as JSON.

JSON is read back strictly: no unknown key, no value of another type. An option that an older version did not have yet
has its default.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from data import strict_json
from data.corpora import KINDS
from trainer.config.schema import Config
from trainer.errors import ConfigError

PLACE = (
    "name",
    "runs_dir",
    "cache_dir",
    "device",
    "resume",
    "overwrite",
    "allow_changes",
    "report",
    "push_to_hub",
    "check",
)
"""Options that say where a run was done and not how."""

GONE = {"model.compile_layers": False}
"""Options that older versions had -> the value under which they did what this version does."""


def to_json(config: Config) -> str:
    """The configuration as JSON; the corpus has its class' name under "kind"."""
    plain = dataclasses.asdict(config)
    plain["corpus"] = {"kind": type(config.corpus).__name__, **plain["corpus"]}
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Name -> value of every option, with the command line's names, such as `train.max_skips`."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{field.name}.")
        else:
            flat[prefix + field.name] = value
    return flat


def defaults_of(config: Config, names: Collection[str]) -> Config:
    """`config`, in which each option of `names` (as in `flatten`) has the default of its field, whatever the preset
    says."""
    groups = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changed = {
        name: _with_defaults(part, {n.partition(".")[2] for n in names if n.startswith(f"{name}.")})
        for name, part in groups.items()
        if dataclasses.is_dataclass(part)
    }
    return _with_defaults(dataclasses.replace(config, **changed), {name for name in names if "." not in name})


def _with_defaults(part: Any, names: Collection[str]) -> Any:
    return dataclasses.replace(part, **{f.name: f.default for f in dataclasses.fields(part) if f.name in names})


def read_config(path: Path, *, lenient: bool = False) -> Config:
    """The configuration that a run left at `path`; ConfigError when it cannot be read or is not a configuration.

    An option that the run's version did not have yet has its default. With `lenient`, one that this version does not
    have is passed over: this is enough to read a run, not to continue it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file, so {path.parent} is no run's folder. Name one, such as runs/NAME."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{path}: not readable ({reason}). Start another run with --name.") from None
    return from_json(text, str(path), lenient=lenient)


def from_json(text: str, origin: str, *, lenient: bool = False) -> Config:
    """The configuration that `to_json` wrote; ConfigError on mistyped fields, and unless `lenient` on unknown ones."""
    try:
        plain = strict_json.loads(text)
        kind = plain["corpus"].pop("kind")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, KeyError) and "model_type" in plain:
            raise ConfigError(
                f"{origin}: not a run's configuration but a model's. Name the folder of its run, such as runs/NAME."
            ) from None
        raise ConfigError(f"{origin}: not a run's configuration ({error}).") from None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f'{origin}: corpus.kind is "{kind}", not one of {", ".join(KINDS)}.')
    return _build(Config, plain, origin, {"corpus": KINDS[kind]}, lenient)


def _build(
    cls: type, plain: Any, where: str, narrowed: dict[str, type] | None = None, lenient: bool = False, group: str = ""
) -> Any:
    if not isinstance(plain, dict):
        raise ConfigError(f"{where}: expected an object, found {plain!r}.")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(plain.keys() - names)
    lost = [name for name in unknown if group + name not in GONE or plain[name] != GONE[group + name]]
    if lost and not lenient:
        raise ConfigError(
            f"{where}: unknown field {lost[0]!r}: a run of another version of this program, newer or much older, that "
            f"has such an option. Go on with that version, or start another run with --name. Known here: "
            f"{', '.join(sorted(names))}."
        )
    values = {}
    for name, value in plain.items():
        if name in unknown:
            continue
        hint = (narrowed or {}).get(name, hints[name])
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), value, f"{where}: {name}", None, lenient, f"{name}.")
        else:
            values[name] = _check_type(value, hint, f"{where}: {name}")
    try:
        return cls(**values)
    except TypeError as error:  # a field without default is missing
        raise ConfigError(f"{where}: {error}.") from None


def _check_type(value: Any, hint: Any, where: str) -> Any:
    if not strict_json.fits(value, hint):
        raise ConfigError(f"{where}: {value!r} is not {getattr(hint, '__name__', hint)}.")
    return tuple(value) if typing.get_origin(hint) is tuple else value
