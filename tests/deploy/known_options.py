"""Checks settings with Flink itself: reads JSON of settings by origin, writes JSON of those that are unknown or invalid.

Run in the environment of a Flink client, by test_settings.py.
"""

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyflink.java_gateway import get_gateway


def options(keys: set[str], lib: Path) -> Iterator[Any]:
    """The options with these keys in Flink's option classes."""
    jvm = get_gateway().jvm
    for jar in sorted(lib.glob("flink-*.jar")):
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if not name.endswith("Options.class") or not name.startswith("org/apache/flink/"):
                    continue
                # Search the class file first, because loading a class is slow and most have none of these keys.
                data = archive.read(name)
                if any(key.encode() in data for key in keys):
                    for field in jvm.java.lang.Class.forName(name.removesuffix(".class").replace("/", ".")).getFields():
                        if field.getType().getSimpleName() == "ConfigOption" and (option := field.get(None)).key() in keys:
                            yield option


def refused(by_origin: dict[str, dict[str, str]], lib: Path) -> dict[str, list[str]]:
    """For each origin, the settings that are not the current name of an option, or have an invalid value."""
    known = {option.key(): option for option in options({key for settings in by_origin.values() for key in settings}, lib)}
    answer: dict[str, list[str]] = {}
    for origin, settings in by_origin.items():
        answer[origin] = [key for key in settings if key not in known]
        configuration = get_gateway().jvm.org.apache.flink.configuration.Configuration.fromMap(settings)
        for key in settings.keys() & known.keys():
            try:
                configuration.get(known[key])
            except Py4JJavaError:
                answer[origin].append(f"{key}={settings[key]}")
    return answer


if __name__ == "__main__":
    print(json.dumps(refused(json.load(sys.stdin), Path(sys.argv[1]))))
    sys.stdout.flush()
    get_gateway().shutdown()
