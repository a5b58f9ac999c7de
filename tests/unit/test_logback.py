from __future__ import annotations

import xml.etree.ElementTree as ET
import zipfile

from kcl_receiver.daemon.command import LOG_CONFIGURATION
from kcl_receiver.daemon.jars import kclpy_jars


def test_every_logger_that_is_turned_down_is_a_class_of_kcl() -> None:
    classes: set[str] = set()
    for jar in kclpy_jars().glob("amazon-kinesis-client-*.jar"):
        with zipfile.ZipFile(jar) as archive:
            classes |= {name[:-6].replace("/", ".") for name in archive.namelist() if name.endswith(".class")}
    loggers = [logger.attrib["name"] for logger in ET.parse(LOG_CONFIGURATION).iter("logger")]
    assert len(loggers) >= 6
    assert [name for name in loggers if name not in classes] == []


def test_the_log_goes_to_stderr_so_that_stdout_stays_free() -> None:
    root = ET.parse(LOG_CONFIGURATION)
    assert [target.text for target in root.iter("target")] == ["System.err"]
