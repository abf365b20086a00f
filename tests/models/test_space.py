"""Search spaces: members, the published networks among them, and what users may write."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.space import SearchSpace, StageSpace
from pocketvision.models.spaces import (
    SPACES,
    V2,
    V3_LARGE,
    V3_SMALL,
    familiar,
    find_space,
    like,
    member_of,
    resized,
    tightened,
)
from pocketvision.storage import from_json, to_json

TINY = """
name = "tiny"
last = 64
hidden = 32
resolutions = [32, 48]

[[stages]]
c_out = 16
stride = 2
depths = [1, 2]
kernels = [3]

[[stages]]
c_out = 24
stride = 2
expansions = [1.0, 3.0]
acts = ["relu"]
"""


@pytest.mark.parametrize("form", ["", "_minimalistic"])
@pytest.mark.parametrize("name", ["v3_large", "v3_small"])
def test_published_networks_are_members(name: str, form: str) -> None:
    space = SPACES[name]
    spec = registry.spec(f"mobilenet_{name}{form}", resolution=224)
    member = member_of(space, spec)
    assert member is not None
    tight = tightened(space)
    for one in (space, tight):
        found = one.spec(member, 1000)
        assert (found.blocks, found.head) == (spec.blocks, spec.head)
    assert tight.members < space.members
    pairs = list(zip(tight.stages, space.stages, strict=True))
    assert all(7 not in stage.kernels for stage in tight.stages)
    assert all(len(stage.depths) >= min(2, len(wide.depths)) for stage, wide in pairs)
    assert tightened(tight).stages == tight.stages
    assert tightened(tiny()) == tiny()


def test_mobilenet_v2_is_the_largest_member_of_its_space() -> None:
    space = replace(V2, resolutions=(224,))
    spec = registry.spec("mobilenet_v2", resolution=224)
    member = member_of(space, spec)
    assert member == space.largest()
    assert space.spec(member, 1000).head == spec.head
    assert familiar(space) == [member]


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (V3_SMALL, "mobilenet_v3_small"),
        (V3_SMALL, "mobilenet_v3_small_minimalistic"),
        (V3_LARGE, "mobilenet_v3_large"),
        (V3_LARGE, "mobilenet_v3_large_minimalistic"),
    ],
)
def test_resized_space_holds_its_network_in_other_sizes_alone(
    space: SearchSpace, name: str
) -> None:
    found = resized(space, name)
    usual = registry.spec(name, resolution=224)
    kept = member_of(found, usual)
    assert kept is not None
    assert found.members < space.members
    assert found.acts == (usual.head.act,)
    for wide, narrow, blocks in zip(space.stages, found.stages, kept.stages, strict=True):
        assert replace(narrow, attention=wide.attention, acts=wide.acts) == wide
        assert set(narrow.attention) == {block.attention for block in blocks}
        assert set(narrow.acts) == {block.act for block in blocks}
    assert resized(tiny(), name) == tiny()


def test_a_network_is_like_a_member_at_every_multiplier_of_the_space() -> None:
    space = replace(V3_SMALL, widths=(0.75,), resolutions=(64,))
    found = like(space, "mobilenet_v3_small_minimalistic", 0.75, 64)
    assert found is not None
    assert (found.width, found.resolution, found.act) == (0.75, 64, "relu")
    assert [len(blocks) for blocks in found.stages] == [1, 2, 3, 2, 3]
    assert like(space, "mobilenet_v3_small", 0.5, 64) is None
    assert like(space, "mobilenet_v3_small", 0.75, 96) is None
    assert like(space, "mobilenet_v3_large", 0.75, 64) is None


def test_familiar_members_are_the_published_network_and_its_minimalistic_form() -> None:
    space = replace(V3_SMALL, widths=(0.5, 1.0), resolutions=(96,))
    found = familiar(space)
    assert len(found) == 4
    usual = registry.spec("mobilenet_v3_small", width=0.5, resolution=96)
    assert space.spec(found[0], 1000).blocks == usual.blocks
    plain = registry.spec("mobilenet_v3_small_minimalistic", width=0.5, resolution=96)
    assert space.spec(found[1], 1000).blocks == plain.blocks
    assert space.spec(found[1], 1000).head == plain.head
    attentive = tuple(replace(stage, attention=(True,)) for stage in V3_SMALL.stages)
    assert familiar(replace(space, stages=attentive)) == []


def test_other_networks_are_not() -> None:
    assert member_of(V3_LARGE, registry.spec("mobilenet_v3_small", resolution=224)) is None
    assert member_of(V3_LARGE, registry.spec("mobilenet_v2", resolution=224)) is None
    assert member_of(V3_SMALL, registry.spec("mobilenet_v3_small", resolution=64)) is None


def test_members_are_counted() -> None:
    """A stage of depth 1 or 2 with 3 x 2 x 2 blocks, and one of 2 to 4 with 3 x 2 x 2."""
    space = tiny()
    assert space.stages[0].blocks == 3 * 2 * 2
    assert space.stages[1].blocks == 3 * 2 * 2
    assert space.members == (12 + 12**2) * (12**2 + 12**3 + 12**4) * 2
    assert replace(space, acts=("relu", "hswish")).members == 2 * space.members


@given(st.integers(0, 10_000), st.sampled_from(sorted(SPACES)))
def test_every_member_is_a_network_that_is_found_again(seed: int, name: str) -> None:
    space = SPACES[name]
    member = space.sample(random.Random(seed))
    spec = space.spec(member, 10)
    assert all(block.c_out % space.multiple == 0 for block in spec.blocks)
    assert member_of(space, spec) == member
    assert from_json(type(member), to_json(member), source="a test") == member


@pytest.mark.parametrize("name", sorted(SPACES))
def test_smallest_and_largest_bound_the_work(name: str) -> None:
    space = SPACES[name]
    low, high = (count(space.spec(m, 10)).macs for m in (space.smallest(), space.largest()))
    generator = random.Random(0)
    drawn = [count(space.spec(space.sample(generator), 10)).macs for _ in range(50)]
    assert low < min(drawn)
    assert max(drawn) < high


def tiny() -> SearchSpace:
    return SearchSpace(
        name="tiny",
        stages=(
            StageSpace(c_out=16, stride=2, depths=(1, 2), kernels=(3,)),
            StageSpace(c_out=24, stride=2, expansions=(1.0, 3.0), acts=("relu",)),
        ),
        last=64,
        hidden=32,
        resolutions=(32, 48),
    )


def test_space_is_read_from_toml(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    assert find_space(str(tmp_path / "tiny.toml")) == tiny()
    assert find_space("v3_small") is V3_SMALL


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stride = 2", "stride = 3", "stride=3 is not allowed"),
        ("depths = [1, 2]", "depths = []", "depths is empty, so the space has no members"),
        ("kernels = [3]", "kernels = [4]", "kernel=4 is even"),
        ("kernels = [3]", "kernels = [3, 3]", r"kernels=\[3, 3\] names a choice twice"),
        ("[1.0, 3.0]", "[0.5]", "expansions=0.5 is out of range; expected 1.0 to 12.0"),
        ('["relu"]', '["gelu"]', "acts"),
        ("hidden = 32", 'hidden = 32\nacts = ["gelu"]', "acts"),
        ("[32, 48]", "[16]", "resolutions=16 is not allowed; expected a whole number from 32 up"),
        ("last = 64", "lost = 64", "last"),
        ("hidden = 32", "hidden = 0", "hidden=0 is not allowed"),
    ],
)
def test_toml_that_is_no_space_says_where(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in TINY
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace(old, new, 1))
    with pytest.raises(ArtefactError, match=f"tiny.toml is not a valid SearchSpace: .*{message}"):
        find_space(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "v3_huge",
            "space='v3_huge' is not known; expected one of v3_large, v3_small, v2, or a .toml",
        ),
        ("absent.toml", "space='absent.toml' cannot be read: No such file"),
    ],
)
def test_unknown_space_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_space(name)


def test_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        find_space(str(tmp_path / "x.toml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.5}, "width is 0.5; the space has 1.0"),
        ({"resolution": 64}, "resolution is 64; the space has 32, 48"),
        ({"stages": ()}, "the member has 0 stages, tiny has 2"),
        ({"act": "relu"}, "the activation of the ends is relu; the space has hswish"),
    ],
)
def test_member_of_another_space_is_refused(change: dict[str, object], message: str) -> None:
    member = tiny().sample(random.Random(0))
    with pytest.raises(ConfigError, match=message):
        tiny().spec(replace(member, **change), 10)  # type: ignore[arg-type]  # wrong on purpose


def test_block_that_its_stage_does_not_have_is_refused() -> None:
    member = tiny().smallest()
    block = replace(member.stages[0][0], kernel=7)
    with pytest.raises(ConfigError, match="a kernel of stage 0 is 7; the space has 3"):
        tiny().check(replace(member, stages=((block,), member.stages[1])))


def test_space_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="tiny has no stages"):
        replace(tiny(), stages=())
