"""Prints facts about binaries as JSON: their format, their processor, and what they require of a system.

`end` is where the last part that the headers speak of ends: a shorter file was cut off.
"""

import json
import sys

import lief

lief.logging.disable()


def elf(binary):
    versions = [
        auxiliary.name
        for requirement in binary.symbols_version_requirement
        for auxiliary in requirement.get_auxiliary_symbols()
    ]
    header = binary.header
    return {
        "format": "ELF",
        "cpu": header.machine_type.name,
        "kind": header.file_type.name,
        "libraries": list(binary.libraries),
        # Symbols that others can see and that are defined here.
        "exports": sorted({symbol.name for symbol in binary.exported_symbols}),
        "glibc": [version[6:] for version in versions if version.startswith("GLIBC_")],
        "end": max(
            [header.section_header_offset + header.numberof_sections * header.section_header_size]
            + [segment.file_offset + segment.physical_size for segment in binary.segments]
        ),
    }


def macho(binary):
    stated = binary.build_version.minos if binary.build_version else binary.version_min.version if binary.version_min else []
    return {
        "format": "Mach-O",
        "cpu": binary.header.cpu_type.name,
        "kind": binary.header.file_type.name,
        "libraries": [
            library.name
            for library in binary.libraries
            if library.command != lief.MachO.LoadCommand.TYPE.ID_DYLIB
        ],
        "exports": sorted(symbol.name.removeprefix("_") for symbol in binary.exported_symbols),
        "macos": ".".join(map(str, stated)),
        "signed": binary.has_code_signature,
        "end": max([segment.file_offset + segment.file_size for segment in binary.segments]),
    }


def pe(binary):
    return {
        "format": "PE",
        "cpu": binary.header.machine.name,
        "kind": "DLL" if binary.header.has_characteristic(lief.PE.Header.CHARACTERISTICS.DLL) else "EXE",
        "libraries": [library.name.lower() for library in binary.imports],
        "exports": sorted(entry.name for entry in binary.get_export().entries) if binary.has_exports else [],
        "end": max([section.offset + section.size for section in binary.sections]),
    }


def facts(path):
    if lief.is_elf(path):
        binary = lief.ELF.parse(path)
        return elf(binary) if binary else None
    if lief.is_macho(path):
        fat = lief.MachO.parse(path)
        return macho(fat.at(0)) if fat and fat.size == 1 else None
    if lief.is_pe(path):
        binary = lief.PE.parse(path)
        return pe(binary) if binary else None
    return None


json.dump([facts(path) for path in sys.argv[1:]], sys.stdout)
