"""A fixed set of attacks on the readers of network files: pickles that would run something, and small files that ask for
much. `fuzz.py` tries them all; each must be refused."""

import io
import os
import pickle
import struct
import zipfile

from stylegan_invert.files.pickled import Call, Name, PersistentId, dump
from stylegan_invert.files.tensors import MAGIC_NUMBER
from stylegan_invert.network_files.machine.persistence import module_call, persistent_call
from stylegan_invert.networks.stylegan2 import Generator

EVIL = "import os\nos.system('touch /nowhere')\n"


class Calls:
    """Pickles as a call of a function, as attackers do it."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def written(obj) -> bytes:
    f = io.BytesIO()
    dump(obj, f)
    return f.getvalue()


def network(**state_of_mapping):
    """The record of a small generator, with changes to the state of its mapping."""
    g = Generator(
        4, 0, 4, 8, 1, mapping_kwargs={"num_layers": 1}, synthesis_kwargs={"channel_base": 16, "channel_max": 2}
    )
    record = module_call(g.requires_grad_(False))
    record.args[0]["state"]["_modules"].items["mapping"].args[0]["state"].update(state_of_mapping)
    return record


def storage(numel, kind="FloatStorage", data=b"", count=None):
    """A storage blob that may claim anything."""
    parts = (
        MAGIC_NUMBER,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}},
    )
    head = (
        b"".join(map(written, parts))
        + written(PersistentId(("storage", Name("torch", kind), "0", "cpu", numel, None)))
        + written(["0"])
    )
    return Call(
        "torch.storage", "_load_from_bytes", (head + struct.pack("<q", numel if count is None else count) + data,)
    )


def tensor(store, size, stride, offset=0, hooks=None):
    return Call(
        "torch._utils", "_rebuild_tensor_v2", (store, offset, size, stride, False, {} if hooks is None else hooks)
    )


def torch_zip(data_pkl: bytes, **files: bytes) -> bytes:
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        z.writestr("net/data.pkl", data_pkl)
        for name, content in files.items():
            z.writestr(f"net/{name}", content)
    return f.getvalue()


def executions():
    """Pickles that would run something in Python's own unpickler."""
    for protocol in range(6):
        for function, args in (
            (os.system, ("touch /nowhere",)),
            (exec, (EVIL,)),
            (eval, ("1",)),
            (getattr, (os, "system")),
            (__import__, ("os",)),
        ):
            for place in (
                lambda x: x,
                lambda x: {"G_ema": x},
                lambda x: [x, x],
                lambda x: {"G_ema": None, "training_set_kwargs": {"path": x}},
            ):
                try:
                    yield "call", pickle.dumps(place(Calls(function, *args)), protocol=protocol)
                except (pickle.PicklingError, TypeError):
                    pass
    for module, name in (("os", "system"), ("builtins", "eval"), ("posix", "system"), ("torch", "load"), ("torch.serialization", "load"), ("torch", "FloatStorage.__init__"),
                         ("collections", "OrderedDict.__class__"), ("numpy", "load"), ("torch_utils.persistence", "_src_to_module"), ("dnnlib.util", "open_url"),
                         ("numpy.core.multiarray", "fromfile"), ("torch._utils", "_import_dotted_name"), ("functools", "partial"), ("operator", "attrgetter")):  # fmt: skip
        for args in ((), ("id",), ({},)):
            yield "global", written({"G_ema": Call(module, name, args)})
            yield "global in a state", written({"G_ema": network(evil=Call(module, name, args))})
            yield "global in a zip", torch_zip(written(Call(module, name, args)))
            short = module.encode(), name.encode()
            yield "stack global", b"\x80\x04" + b"".join(b"\x8c" + bytes([len(s)]) + s for s in short) + b"\x93)R."
    payload = pickle.dumps(Calls(os.system, "touch /nowhere"), protocol=2)
    for blob in (
        payload,
        written(MAGIC_NUMBER) + payload,
        written(MAGIC_NUMBER) + written(1001) + payload,
        torch_zip(payload),
    ):
        yield (
            "payload in a storage",
            written({"G_ema": network(evil=Call("torch.storage", "_load_from_bytes", (blob,)))}),
        )
    yield "evil source", written({"G_ema": persistent_call("Generator", {}, EVIL)})
    yield (
        "evil source that is never run",
        written(
            {
                "G_ema": Call(
                    "torch_utils.persistence",
                    "_reconstruct_persistent_obj",
                    ({**network().args[0], "module_src": EVIL * 500},),
                )
            }
        ),
    )
    yield "hooks", written({"G_ema": network(_forward_hooks={1: "x"})})
    yield "tensor hooks", written({"G_ema": network(t=tensor(storage(1, data=b"\0" * 4), (1,), (1,), hooks={"x": 1}))})
    for opcode in (
        b"i__builtin__\neval\n",
        b"o",
        b"\x82\x01",
        b"\x83\x01\x00",
        b"\x84\x01\x00\x00\x00",
        b"P1\n",
        b"\x92",
        b"\x97",
        b"\x96" + b"\0" * 8,
        b"\x98",
        b"0",
        b"1",
        b"2",
        b"b",
    ):
        yield "opcode", b"\x80\x04(" + opcode + b"."


def exhaustions():
    """Small files that ask for much."""
    yield "memo index", b"\x80\x02Nr\xff\xff\xff\x7f."
    yield "memo index", b"\x80\x02Nr\x00\x00\x00\x08."
    tower = b"\x80\x04)\x94" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(100)) + b"."
    yield "tuple tower", tower
    yield "tuple tower as a key", tower[:-1] + b"}" + b"h\x64" + b"Ns."
    yield (
        "list tower",
        b"\x80\x04]\x94" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"e\x94" for i in range(100)) + b".",
    )
    for bottom in (network(), tensor(storage(1, data=b"\0" * 4), (1,), (1,)), {}):
        for _ in range(60):
            bottom = Call("collections", "OrderedDict", items={"a": bottom, "b": bottom})
        yield "tower of tables", written({"G_ema": network(), "stylegan_invert": bottom})
        yield "tower of tables", written({"G_ema": network(_modules=bottom)})
    part = network()
    yield "one part in many places", written({"G_ema": network(_modules={f"fc{i}": part for i in range(50)})})
    yield "marks", b"\x80\x04" + b"(" * 100_000 + b"."
    yield "lists", b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "tuples", b"\x80\x04N" + b"\x85" * 100_000 + b"."
    yield "dictionaries", b"\x80\x04" + b"}" * 3_000_000
    yield "opcodes", b"\x80\x04(" + b"N" * 10_000_000 + b"t."
    yield "a list in itself", b"\x80\x04]\x94h\x00a."
    yield "integers", b"\x80\x04\x8a\xff" + b"\x7f" * 255 + b"."
    yield "integers", b"\x80\x04\x8b\xff\xff\xff\x7f."
    for opcode in (b"B", b"X"):
        yield "length", b"\x80\x04" + opcode + b"\xff\xff\xff\xff."
    for opcode in (b"\x8d", b"\x8e", b"\x95"):
        yield "length", b"\x80\x04" + opcode + b"\xff\xff\xff\xff\xff\xff\xff\x7f."
    yield "wide text", b"\x80\x04X" + struct.pack("<I", 8_000_000) + ("\U0001f431" * 2_000_000).encode() + b"."
    keys = b"".join(b"\x8a\x10" + ((2**61 - 1) * i).to_bytes(16, "little") + b"N" for i in range(100_000))
    yield "colliding keys", b"\x80\x04}(" + keys + b"u."
    yield (
        "colliding keys",
        b"\x80\x04}(" + b"".join(b"J" + struct.pack("<i", i << 20) + b"N" for i in range(-2048, 2048)) + b"u.",
    )
    yield (
        "copies of a set",
        b"\x80\x04cbuiltins\nset\n\x94](" + b"\x8c\x01a" * 50_000 + b"e\x85\x94" + b"h\x00h\x01R" * 40_000 + b".",
    )
    big = storage(2_000_000, data=b"\0" * 8_000_000)
    yield "stride 0", written({"G_ema": network(), "x": tensor(storage(1, data=b"\0" * 4), (1 << 40,), (0,))})
    yield "stride 0", written({"G_ema": network(), "x": tensor(storage(1, data=b"\0" * 4), (1 << 20, 1 << 20), (0, 0))})
    for size, stride, offset in (
        ((-1,), (1,), 0),
        ((1,), (-1,), 0),
        ((1,), (1,), -1),
        ((2,), (1,), 0),
        ((1,), (1,), 1),
        ((1 << 60,) * 8, (0,) * 8, 0),
        ((1,) * 9, (1,) * 9, 0),
        ((True,), (1,), 0),
        ((1.0,), (1,), 0),
    ):
        yield "tensor", written({"G_ema": network(), "x": tensor(storage(1, data=b"\0" * 4), size, stride, offset)})
    for numel, count in ((1 << 60, None), (1 << 60, 1), (-1, None), (2, None), (1, 1 << 60), (1, -1)):
        yield "storage", written({"G_ema": network(), "x": storage(numel, data=b"\0" * 4, count=count)})
    yield (
        "one storage many times",
        written({"G_ema": network(), "stylegan_invert": {str(i): tensor(big, (2_000_000,), (1,)) for i in range(100)}}),
    )
    yield from claims()
    yield "zip with a giant directory", torch_zip(b"\x80\x02N.", **{str(i): b"" for i in range(30_000)})
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        f = io.BytesIO()
        with zipfile.ZipFile(f, "w", method) as z:
            z.writestr("net/data.pkl", b"\x80\x04" + b"\0" * 50_000_000)
        yield "zip bomb", f.getvalue()
    yield from found_by_review()
    yield "reads nothing", b""
    yield "half a header", b"\x80"
    yield "half a zip", b"PK"
    yield "zip of nothing", b"PK\x05\x06" + b"\0" * 18


def claims():
    """Networks whose arguments ask for much, or are of a wrong kind."""
    for changes in (
        {"num_layers": 1 << 30},
        {"z_dim": 1 << 30},
        {"w_dim": 1 << 60},
        {"w_avg_beta": "x"},
        {"num_ws": None},
    ):
        yield "claim", written({"G_ema": network(**changes)})
    for args in ({"img_resolution": 1 << 30}, {"img_resolution": 1 << 62}, {"z_dim": 1 << 15, "w_dim": 1 << 15}, {"img_channels": 1 << 16}, {"img_resolution": -8}, {"c_dim": 65536}, {"z_dim": "8"}, {"w_dim": None},
                 {"mapping_kwargs": {"num_layers": 1 << 30}}, {"mapping_kwargs": {"layer_features": 1 << 30}}, {"mapping_kwargs": {"activation": "exec"}}, {"mapping_kwargs": 3},
                 {"synthesis_kwargs": {"channel_base": 1 << 31, "channel_max": 1 << 31}}, {"synthesis_kwargs": {"kernel_size": 1 << 30}}, {"synthesis_kwargs": {"kernel_size": -1}},
                 {"synthesis_kwargs": {"resample_filter": [0.0] * 64}}, {"synthesis_kwargs": {"resample_filter": [1] * 65}}, {"synthesis_kwargs": {"resample_filter": 1 << 40}},
                 {"synthesis_kwargs": {"num_fp16_res": 1 << 31}}, {"synthesis_kwargs": {"num_fp16_res": -(1 << 31)}}, {"synthesis_kwargs": {"unheard_of": 1}}, {"synthesis_kwargs": {"architecture": []}}, {"unheard_of": 1}):  # fmt: skip
        record = network()
        record.args[0]["state"]["_init_args"] = ()
        record.args[0]["state"]["_init_kwargs"].update(
            {**dict(zip(("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels"), (4, 0, 4, 8, 1))), **args}
        )
        yield "claim", written({"G_ema": record})


def found_by_review():
    """Attacks that broke an earlier version of the reader."""
    system = {"protocol_version": 1001, "little_endian": True}
    head = written(MAGIC_NUMBER) + written(1001) + written(system)
    empty = (
        head
        + written(PersistentId(("storage", Name("torch", "FloatStorage"), "0", "cpu", 0, None)))
        + written(["0"])
        + bytes(8)
    )
    load_empty = b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(empty)) + empty + b"\x85R"
    start = b"\x80\x04(ctorch._utils\n_rebuild_tensor_v2\n(" + load_empty + b"K\0"
    yield "deep size of a tensor", start + b"N" + b"\x85" * 2000 + b"\x85K\1\x85\x89NtRt."
    tower = b"".join(b"j" + struct.pack("<I", 5 + i) + b"\x86r" + struct.pack("<I", 6 + i) for i in range(60))
    yield "tower as the size of a tensor", start + b"]r\5\0\0\0" + tower + b"\x85K\1\x85\x89NtRt."
    for fourth, fifth in (
        ((), []),
        (("x", "0", 0), ["0"]),
        (([], "0", 0), ["0"]),
        (("FloatStorage", "0"), ["0"]),
        (("FloatStorage", "0", None), ["0"]),
    ):
        blob = head + written(fourth) + written(fifth) + bytes(8)
        yield (
            "storage that is a tuple",
            written({"G_ema": network(), "x": Call("torch.storage", "_load_from_bytes", (blob,))}),
        )
    yield "many empty storages", b"\x80\x04(" + load_empty * 30_000 + b"t."
    layer = persistent_call("FullyConnectedLayer", {"_parameters": {}, "_modules": {}}, "")
    record = network(_modules=Call("collections", "OrderedDict", items={f"fc{i}": layer for i in range(20_000)}))
    record.args[0]["state"]["_init_kwargs"]["mapping_kwargs"] = {"num_layers": 20_000}
    yield "one layer under many names", written({"G_ema": record})
    four = storage(4, data=bytes(16))
    for size, stride, offset in (((0,), (1,), 5), ((0,), (1,), 2**48 - 1), ((0, 1 << 47, 1 << 47), (1, 1, 1), 0)):
        yield (
            "tensor of nothing",
            written({"G_ema": network(), "stylegan_invert": {"t": tensor(four, size, stride, offset)}}),
        )
    nothing = tensor(storage(0), (0,), (1,))
    for leaf, n in ((nothing, 900), (Call("collections", "OrderedDict"), 800)):
        inner = Call("collections", "OrderedDict", items={i: leaf for i in range(n)})
        yield "shared tables", written({"G_ema": network(), "stylegan_invert": {i: inner for i in range(n)}})
    inner = Call("collections", "OrderedDict", items={i: None for i in range(400)})
    yield (
        "shared training arguments",
        written({"G_ema": network(), "training_set_kwargs": {i: inner for i in range(400)}}),
    )
    yield "wide texts", written({"G_ema": network(), "x": ["a" * 4080 + f"\U0001f431{i}" for i in range(5000)]})
    yield "empty sets", b"\x80\x04(" + b"\x8f" * 390_000 + b"t."
    yield "zip of nothings", torch_zip(b"\x80\x02N.", **{str(i): b"" for i in range(19_000)})
    for text in ("a\nb\x1b[31m" + "c" * 4000, "x" * 4000):
        yield (
            "long names",
            written({"G_ema": network(), text: 1, "x": persistent_call(text, {text: 1, "_forward_hooks": {1: 1}}, "")}),
        )
        yield "long names", written({"G_ema": network(**{text + "_hook": {1: 1}})})
        yield "long names", written({"G_ema": persistent_call(text, {}, "")})
        yield "long names", written({text: 1})
        yield "long names", written({"G_ema": network(), "stylegan_invert": {text: {text: {text: 1}}}})
        yield "long names", b"\x80\x04X" + struct.pack("<I", len(text)) + text.encode() + b"h\0\x93)R."
    wide = [1]
    for _ in range(5):
        wide = [wide] * 6
    yield "wide attribute", written({"G_ema": network(w_avg_beta=wide)})
    identity = network()
    identity.args[0]["class_name"] = "Identity"
    yield "generator of no kind", written({"G_ema": identity})
    for where, name, values in (
        ("synthesis_kwargs", "conv_clamp", ("x", [1], float("nan"), -1)), ("mapping_kwargs", "activation", ("exec", [1], None)),
        ("synthesis_kwargs", "kernel_size", (0, 2, -1, 1 << 40)), ("mapping_kwargs", "num_layers", (0, -1, True, "1")),
        ("mapping_kwargs", "lr_multiplier", (0, float("inf"), "x")), ("synthesis_kwargs", "use_noise", (1, "x")),
    ):  # fmt: skip
        for value in values:
            record = network()
            record.args[0]["state"]["_init_kwargs"][where][name] = value
            for part in [record, *record.args[0]["state"]["_modules"].items.values()]:
                part.args[0]["state"].pop(name, None)
            yield "argument of the wrong kind", written({"G_ema": record})
