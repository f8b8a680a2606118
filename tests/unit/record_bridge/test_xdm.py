"""IHE_XDM.zip: sound packages are read, and every limit is bracketed.

Source: TF-2 §3.32.4.1, APPNOTE §4.3.
"""

import io
import zipfile

import pytest

from record_bridge.errors import MalformedPackageError
from record_bridge.formats.xdm import (
    DEFAULT_LIMITS,
    PackagedDocument,
    XdmLimits,
    build_package,
    open_package,
)

META = "IHE_XDM/SUBSET01/METADATA.XML"


def zipped(*files: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return written.getvalue()


def test_a_package_is_read_back():
    package = open_package(build_package(b"<m/>", [PackagedDocument("DOC0001.XML", b"<d/>")]))

    assert (package.metadata, package.folder) == (b"<m/>", "IHE_XDM/SUBSET01/")
    assert [d.uri for d in package.documents] == [
        "INDEX.HTM",
        "README.TXT",
        "IHE_XDM/SUBSET01/DOC0001.XML",
    ]


def test_building_twice_makes_the_same_bytes():
    documents = [PackagedDocument("DOC0001.XML", b"<d/>" * 1000)]

    assert build_package(b"<m/>", documents) == build_package(b"<m/>", documents)


def test_what_inflates_too_well_is_stored_when_built():
    package = open_package(
        build_package(b"<m/>", [PackagedDocument("DOC0001.XML", b" " * 5_000_000)])
    )

    assert len(package.documents[-1].content) == 5_000_000


@pytest.mark.parametrize(
    "uri",
    [
        "DOC0001.XML",
        "doc0001.xml",
        "SUBSET01/DOC0001.XML",
        "IHE_XDM/SUBSET01/DOC0001.XML",
        "ihe_xdm\\SUBSET01\\DOC0001.XML",
        "./DOC0001.XML",
        ".\\DOC0001.XML",
        "DOC%30001.XML",
    ],
)
def test_a_uri_is_resolved_from_each_folder_in_any_case(uri: str):
    package = open_package(zipped((META, b"<m/>"), ("IHE_XDM/SUBSET01/DOC0001.XML", b"d")))
    found = package.resolve(uri)

    assert found is not None
    assert found.content == b"d"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "..",
        "../x",
        "/IHE_XDM/SUBSET01/DOC0001.XML",
        "METADATA.XML",
        "NONE.XML",
        "a\\b",
        "..\\..\\x",
        "%2e%2e/x",
        "..%2f..%2fx",
        "x",
        "file:///etc/passwd",
    ],
)
def test_a_uri_never_leaves_the_package(uri: str):
    package = open_package(
        zipped((META, b"<m/>"), ("x", b"d"), ("IHE_XDM/SUBSET01/DOC0001.XML", b"d"))
    )

    assert package.resolve(uri) is None


def test_a_uri_that_names_two_files_is_refused():
    package = open_package(
        zipped((META, b"<m/>"), ("IHE_XDM/SUBSET01/A/D.XML", b"1"), ("IHE_XDM/A/D.XML", b"2"))
    )

    with pytest.raises(MalformedPackageError, match="ambiguous"):
        package.resolve("A/D.XML")


def test_a_uri_that_is_one_file_decoded_and_another_as_it_is_is_refused():
    package = open_package(
        zipped(
            (META, b"<m/>"),
            ("IHE_XDM/SUBSET01/D%20.XML", b"1"),
            ("IHE_XDM/SUBSET01/D .XML", b"2"),
        )
    )

    with pytest.raises(MalformedPackageError, match="ambiguous"):
        package.resolve("D%20.XML")


def test_folders_separated_by_backslashes_are_folders():
    package = open_package(
        zipped(("INDEX.HTM", b"i"), *((n.replace("/", "\\"), b"<m/>") for n in (META, META[:-4])))
    )

    assert package.folder == "IHE_XDM/SUBSET01/"
    assert package.resolve("METADATA") is not None


def test_names_that_begin_at_the_folder_itself_are_names():
    package = open_package(
        zipped(
            ("./", b""),
            ("./IHE_XDM/", b""),
            ("./IHE_XDM/SUBSET01/METADATA.XML", b"<m/>"),
            ("./IHE_XDM/SUBSET01/DOC.XML", b"d"),
        )
    )

    assert package.folder == "IHE_XDM/SUBSET01/"
    assert [d.uri for d in package.documents] == ["IHE_XDM/SUBSET01/DOC.XML"]
    assert package.resolve("DOC.XML") is package.resolve("SUBSET01/DOC.XML") is not None


@pytest.mark.parametrize("tail", [b"\x00", b"\r\n", b"\n\n", b"\x00" * 65_535])
def test_a_buffer_sent_whole_and_a_lines_end_hold_nothing(tail: bytes):
    archive = zipped((META, b"<m/>"))

    assert open_package(archive + tail) == open_package(archive)


@pytest.mark.parametrize("name", ["..\\x", "IHE_XDM\\..\\..\\x", "\\x", "C:\\x", "a\\\\b"])
def test_a_backslash_opens_no_way_out(name: str):
    with pytest.raises(MalformedPackageError, match="name"):
        open_package(zipped((META, b"<m/>"), (name, b"x")))


def test_names_that_differ_in_their_separators_are_twins():
    with pytest.raises(MalformedPackageError, match="twin"):
        open_package(zipped((META, b"<m/>"), ("a/b", b"1"), ("a\\b", b"2")))


def test_a_prefixed_root_is_tolerated():
    package = open_package(
        zipped(
            ("samplexdm/IHE_XDM/SS000001/METADATA.XML", b"<m/>"),
            ("samplexdm/IHE_XDM/SS000001/D", b"d"),
        )
    )

    assert package.resolve("D") is not None
    assert package.resolve("SS000001/D") is not None


@pytest.mark.parametrize(
    "names", [(), ("METADATA.XML",), ("SUBSET01/METADATA.XML",), ("IHE_XDM/METADATA.XML",)]
)
def test_without_its_metadata_it_is_no_package(names: tuple[str, ...]):
    with pytest.raises(MalformedPackageError, match=r"no METADATA\.XML"):
        open_package(zipped(*((name, b"<m/>") for name in names)))


def test_two_submission_sets_are_refused():
    with pytest.raises(MalformedPackageError, match="several"):
        open_package(zipped((META, b"<m/>"), ("IHE_XDM/SUBSET02/METADATA.XML", b"<m/>")))


def test_folders_stored_as_entries_are_no_obstacle():
    assert open_package(zipped(("IHE_XDM/", b""), ("IHE_XDM/SUBSET01/", b""), (META, b"<m/>")))


def test_an_archive_written_as_a_stream_is_read():
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.written = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]  # unseekable on purpose
        archive.writestr(META, b"<m/>")

    assert open_package(pipe.written).metadata == b"<m/>"


@pytest.mark.parametrize(("count", "fits"), [(1000, True), (1001, False), (20_000, False)])
def test_the_number_of_files_is_bounded(count: int, *, fits: bool):
    archive = zipped(
        (META, b"<m/>"), *((f"{n}", b"") for n in range(count - 1)), compression=zipfile.ZIP_STORED
    )

    if fits:
        assert len(open_package(archive).documents) == count - 1
    else:
        with pytest.raises(MalformedPackageError, match="too many"):
            open_package(archive)


@pytest.mark.parametrize(("total", "fits"), [(1000, True), (1001, False), (90_000, False)])
def test_the_sum_of_sizes_is_bounded(total: int, *, fits: bool):
    limits = XdmLimits(max_total_bytes=1000)
    archive = zipped(
        (META, b"m" * 500), ("x", b"x" * (total - 500)), compression=zipfile.ZIP_STORED
    )

    if fits:
        assert open_package(archive, limits)
    else:
        with pytest.raises(MalformedPackageError, match="inflates"):
            open_package(archive, limits)


def test_the_ratio_is_bounded():
    archive = zipped((META, b"<m/>"), ("x", b"\x00" * 1_000_000))
    info = zipfile.ZipFile(io.BytesIO(archive)).getinfo("x")
    ratio = info.file_size / info.compress_size

    assert ratio > 200 == DEFAULT_LIMITS.max_ratio
    with pytest.raises(MalformedPackageError, match="inflates"):
        open_package(archive)
    assert open_package(archive, XdmLimits(max_ratio=int(ratio) + 1))
    with pytest.raises(MalformedPackageError, match="inflates"):
        open_package(archive, XdmLimits(max_ratio=int(ratio)))


@pytest.mark.parametrize(
    ("length", "fits"), [(255, True), (256, False), (300, False), (60_000, False)]
)
def test_the_length_of_names_is_bounded(length: int, *, fits: bool):
    archive = zipped((META, b"<m/>"), ("x" * length, b"x"))

    if fits:
        assert open_package(archive)
    else:
        with pytest.raises(MalformedPackageError, match="name"):
            open_package(archive)


def test_the_archive_itself_is_bounded():
    archive = zipped((META, b"<m/>"))

    assert open_package(archive, XdmLimits(max_archive_bytes=len(archive)))
    with pytest.raises(MalformedPackageError, match="too large"):
        open_package(archive, XdmLimits(max_archive_bytes=len(archive) - 1))


def test_sizes_of_the_national_profile_are_the_defaults():
    assert XdmLimits() == XdmLimits(
        max_archive_bytes=52_428_800,
        max_files=1000,
        max_total_bytes=104_857_600,
        max_ratio=200,
        max_name_bytes=255,
    )
