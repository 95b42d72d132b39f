"""The index of tar shards: what it finds, and each fault that it refuses."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest

from vfmerge import random
from vfmerge.data.shards import Shard, Shards, split
from vfmerge.errors import BadSample, InputError

EXTENSIONS = ("jpg", "cls")
FILES = {"a.jpg": b"first picture", "a.cls": b"1", "b.jpg": b"second" * 200, "b.cls": b"2"}


def write(path, files, *, format=tarfile.PAX_FORMAT, mtime=0.0):
    """A tar of these names and bytes; files is a mapping or a list of pairs."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            tar.addfile(member, io.BytesIO(data))
    return path


def contents(shard):
    """All bytes of all samples: {key: {extension: bytes}}."""
    return {
        shard.key(row): {extension: shard.read(row, extension, name="x") for extension in shard.members(row)}
        for row in range(len(shard))
    }


def refused(path, match, **options):
    with pytest.raises(InputError, match=match) as caught:
        Shard(path, extensions=EXTENSIONS, **options)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) <= 300


def link(path, kind):
    """A tar with one good sample and a link."""
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
        member = tarfile.TarInfo("b.jpg")
        member.type, member.linkname = kind, "a.jpg"
        tar.addfile(member)
    return path


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_and_read(tmp_path, format):
    """Every format of tar, with the broken times that make PAX headers, gives the bytes that went in."""
    path = write(tmp_path / "x.tar", FILES, format=format, mtime=1.5 if format == tarfile.PAX_FORMAT else 0)
    assert contents(Shard(path, extensions=EXTENSIONS)) == {
        "a": {"jpg": FILES["a.jpg"], "cls": b"1"},
        "b": {"jpg": FILES["b.jpg"], "cls": b"2"},
    }


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["f/" * 60 + "picture", "folder/" + "é" * 40])
def test_long_and_foreign_names(tmp_path, format, name):
    """Names beyond a header's hundred bytes, and beyond ASCII."""
    shard = Shard(write(tmp_path / "x.tar", {f"{name}.jpg": b"1"}, format=format), extensions=EXTENSIONS)
    assert contents(shard) == {name: {"jpg": b"1"}}


def test_agrees_with_tarfile_on_offsets(tmp_path):
    """Offsets and sizes are those of Python's own reader."""
    path = write(tmp_path / "x.tar", {f"{n:03}.jpg": b"x" * n * 37 for n in range(100)})
    shard = Shard(path, extensions=EXTENSIONS)
    with tarfile.open(path) as tar:
        expected = [(member.offset_data, member.size) for member in tar]
    assert [shard.members(row)["jpg"] for row in range(len(shard))] == expected


def test_other_members_are_left_out(tmp_path):
    """Extensions that nobody asked for, hidden files, files without extension, and folders."""
    files = [("./a.JPG", b"1"), ("./a.pickle", b"2"), ("./.hidden.jpg", b"3"), ("README", b"4"), ("only.pyd", b"5")]
    path = write(tmp_path / "x.tar", files)
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert contents(Shard(path, extensions=EXTENSIONS)) == {"a": {"jpg": b"1"}}


def test_split_at_the_first_dot():
    """Of the last part of the name."""
    assert split("a.b/c.seg.PNG") == ("a.b/c", "seg.png")
    assert split("./c.jpg") == ("c", "jpg")
    assert split(".hidden") == split("README") == ("", "")


def test_size_of_eight_gigabytes_and_more(tmp_path):
    """GNU's binary size field: the member is announced, and missed as cut off, under its true size."""
    member = tarfile.TarInfo("big.jpg")
    member.size = 9 << 30
    path = tmp_path / "x.tar"
    path.write_bytes(member.tobuf(format=tarfile.GNU_FORMAT) + bytes(1024))
    refused(path, "member 'big.jpg' is cut off")


def test_duplicate_is_refused(tmp_path):
    """The same member twice."""
    refused(write(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.jpg", b"2")]), "member 'a.jpg' comes twice")


def test_members_apart_are_refused(tmp_path):
    """A streaming reader would make four half samples of these two."""
    files = [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.cls", b"3"), ("b.cls", b"4")]
    path = write(tmp_path / "x.tar", files)
    refused(path, "member 'a.cls' is apart")
    assert contents(Shard(path, extensions=EXTENSIONS, adjacent=False))["a"] == {"jpg": b"1", "cls": b"3"}


@pytest.mark.parametrize(("kind", "words"), [(tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a hard link")])
def test_links_are_refused(tmp_path, kind, words):
    """A link would be an empty sample."""
    refused(link(tmp_path / "x.tar", kind), f"member 'b.jpg' is {words}")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE])
def test_devices_are_refused(tmp_path, kind):
    """So would a pipe, a device and a sparse file."""
    refused(link(tmp_path / "x.tar", kind), "member 'b.jpg' is no plain file")


def test_every_cut_is_refused(tmp_path):
    """At each block, also between two members, up to the mark of the end."""
    whole = write(tmp_path / "x.tar", FILES).read_bytes()
    end = 512 * (4 + 1 + 1 + 3 + 1)  # four headers and their contents in blocks
    path = tmp_path / "cut.tar"
    for length in [*range(0, end + 1, 512), *range(100, end, 700)]:
        path.write_bytes(whole[:length])
        refused(path, "cut off")


def test_garbage_is_refused(tmp_path):
    """Not a tar at all, and one whose second header was overwritten."""
    path = tmp_path / "x.tar"
    path.write_bytes(b"garbage!" * 1000)
    refused(path, "garbage at byte 0")
    data = bytearray(write(path, FILES).read_bytes())
    data[1024:1030] = b"\xff\xff\xff\xff\xff\xff"
    path.write_bytes(data)
    refused(path, "garbage at byte 1,024")


def test_compressed_is_refused(tmp_path):
    """With the remedy."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    path.write_bytes(path.read_bytes() + bytes(1024))
    refused(path, "is compressed")


def test_bytes_after_the_end_are_refused(tmp_path):
    """Two tars joined, whose second half other readers never see; and a header wiped to zeros."""
    path = tmp_path / "x.tar"
    one = write(path, FILES).read_bytes()
    path.write_bytes(one + one)
    refused(path, "goes on after the mark of its end")
    path.write_bytes(one[:1024] + bytes(512) + one[1536:])
    refused(path, "goes on after the mark of its end at byte 1,024")


@pytest.mark.parametrize(
    "record", [b"11 size=-5\n", b"12 size=abc\n", b"999 path=x\n", b"junk", b"-3 a=b\n", b"11 path=abc"]
)
def test_damaged_pax_header_is_refused(tmp_path, record):
    """Lengths that lie, and sizes below zero or that are no numbers."""
    meta = tarfile.TarInfo("meta")
    meta.type, meta.size = tarfile.XHDTYPE, len(record)
    path = tmp_path / "x.tar"
    path.write_bytes(meta.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + bytes(1024))
    refused(path, "is a damaged PAX header")


def test_damaged_shards_lose_no_sample_without_a_word(tmp_path):
    """300 shards with three damaged bytes: refused, or all twenty samples are there."""
    whole = write(tmp_path / "x.tar", {f"{n:02}.jpg": b"x" * 300 for n in range(20)}).read_bytes()
    path, outcomes = tmp_path / "mutant.tar", []
    for number in range(300):
        draw = random.generator("shards", number)
        mutant = np.frombuffer(whole, dtype=np.uint8).copy()
        mutant[draw.integers(0, len(whole), 3)] = draw.integers(0, 256, 3)
        path.write_bytes(mutant.tobytes())
        try:
            shard = Shard(path, extensions=EXTENSIONS)
        except InputError as error:
            outcomes.append(str(error))
        else:
            outcomes.append([shard.key(row) for row in range(len(shard))])
    read = [outcome for outcome in outcomes if isinstance(outcome, list)]
    assert 0 < len(read) < 300
    assert all(keys == [f"{n:02}" for n in range(20)] for keys in read)
    assert all(len(outcome) <= 300 for outcome in outcomes)


def test_changed_shard_is_noticed(tmp_path):
    """A file that has another size than when it was indexed gives no bytes."""
    shard = Shard(write(tmp_path / "x.tar", FILES), extensions=EXTENSIONS)
    write(tmp_path / "x.tar", {"a.jpg": b"1" * 20_000})
    with pytest.raises(BadSample, match=r"^x: its shard has another size"):
        shard.read(0, "jpg", name="x")
    (tmp_path / "x.tar").unlink()
    with pytest.raises(BadSample, match=r"^x: its shard cannot be read: No such file"):
        shard.read(0, "jpg", name="x")


def test_index_travels_to_another_process(tmp_path):
    """It pickles, and reads there."""
    shard = Shard(write(tmp_path / "x.tar", FILES), extensions=EXTENSIONS)
    assert contents(pickle.loads(pickle.dumps(shard))) == contents(shard)


def test_missing_shard_is_an_input_error(tmp_path):
    """Naming it."""
    refused(tmp_path / "none.tar", "cannot be read: No such file")


def test_several_shards_are_one_list(tmp_path):
    """Samples are numbered through, empty shards in between, with names by shard."""
    files = [{"a.jpg": b"1", "b.jpg": b"2"}, {"ignored": b""}, {"a.jpg": b"3"}]
    paths = [write(tmp_path / f"{n}.tar", content) for n, content in enumerate(files)]
    shards = Shards(paths, root=tmp_path, extensions=EXTENSIONS)
    located = [shards.locate(index) for index in range(len(shards))]
    assert [name for _, _, name in located] == ["0.tar/a", "0.tar/b", "2.tar/a"]
    assert [shard.read(row, "jpg", name=name) for shard, row, name in located] == [b"1", b"2", b"3"]


def test_digest_sees_names_and_sizes(tmp_path):
    """Another key, size or extension is another digest; the same files are the same."""
    variants = [{"a.jpg": b"1"}, {"b.jpg": b"1"}, {"a.jpg": b"12"}, {"a.cls": b"1"}]
    digests = [Shard(write(tmp_path / f"{n}.tar", v), extensions=EXTENSIONS).digest() for n, v in enumerate(variants)]
    assert len(set(digests)) == len(variants)
    assert Shard(write(tmp_path / "again.tar", variants[0]), extensions=EXTENSIONS).digest() == digests[0]
