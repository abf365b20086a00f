from pocketvision.nn.layer import Layer


def test_conv_counts_weights_norm_and_macs() -> None:
    layer = Layer(
        kind="conv",
        c_in=8,
        c_out=16,
        kernel=3,
        groups=4,
        norm=True,
        in_size=(7, 5),
        out_size=(4, 3),
    )
    assert layer.parameters == 16 * 2 * 9 + 2 * 16
    assert layer.macs == 4 * 3 * 16 * 2 * 9
    assert (layer.in_elements, layer.out_elements) == (8 * 35, 16 * 12)


def test_linear_counts_its_bias_as_parameters_only() -> None:
    layer = Layer(kind="linear", c_in=10, c_out=3, bias=True)
    assert (layer.macs, layer.parameters) == (30, 33)


def test_alive_elements_include_what_is_kept() -> None:
    assert Layer(kind="linear", c_in=10, c_out=3, kept=7).alive_elements == 20


def test_depthwise_and_grouped_macs_are_exact() -> None:
    size = (10, 10)
    depthwise = Layer(
        kind="conv", c_in=32, c_out=32, kernel=3, groups=32, in_size=size, out_size=size
    )
    grouped = Layer(kind="conv", c_in=32, c_out=64, kernel=3, groups=4, in_size=size, out_size=size)
    assert (depthwise.macs, grouped.macs) == (28_800, 460_800)
