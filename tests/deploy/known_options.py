"""What Flink itself says of settings: JSON of settings by place in, JSON of what it does not know or cannot read out.

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
    """The options with these keys, of Flink's classes whose names say that they hold some."""
    jvm = get_gateway().jvm
    for jar in sorted(lib.glob("flink-*.jar")):
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if not name.endswith("Options.class") or not name.startswith("org/apache/flink/"):
                    continue
                # Looking into the class file first, for a class a call: most have nothing that is asked for.
                data = archive.read(name)
                if any(key.encode() in data for key in keys):
                    for field in jvm.java.lang.Class.forName(name.removesuffix(".class").replace("/", ".")).getFields():
                        if field.getType().getSimpleName() == "ConfigOption" and (option := field.get(None)).key() in keys:
                            yield option


def refused(places: dict[str, dict[str, str]], lib: Path) -> dict[str, list[str]]:
    """For each place the settings that no option is called today, and those whose value its option cannot read."""
    found = {option.key(): option for option in options({key for settings in places.values() for key in settings}, lib)}
    answer: dict[str, list[str]] = {}
    for place, settings in places.items():
        answer[place] = [key for key in settings if key not in found]
        configuration = get_gateway().jvm.org.apache.flink.configuration.Configuration.fromMap(settings)
        for key in settings.keys() & found.keys():
            try:
                configuration.get(found[key])
            except Py4JJavaError:
                answer[place].append(f"{key}={settings[key]}")
    return answer


if __name__ == "__main__":
    print(json.dumps(refused(json.load(sys.stdin), Path(sys.argv[1]))))
    sys.stdout.flush()
    get_gateway().shutdown()
