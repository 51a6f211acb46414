"""A network made fast for evaluation: the same function in fewer passes over memory."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

_KERNELS = "_convolution_pointwise", "_reorder_convolution_weight"
_SUMS = (operator.add, operator.iadd, torch.add)
_RELUS = (functional.relu, torch.relu, "relu", "relu_")


def evaluation_form(body: nn.Module) -> nn.Module:
    """The same function as a body in evaluation mode, faster.

    A batch norm becomes part of the convolution before it, and pictures lie in memory pixel by pixel. On
    the CPU a sum and a ReLU become part of a convolution too, where this build of torch can do that. What
    cannot be joined is called as it was; that is all of a body whose calls depend on the pictures.

    Parameters
    ----------
    body : (B, 3, H, W) -> (B, features); left as it is.

    Returns
    -------
    A network for the device that the body is on, without gradients. It cannot be copied or saved.

    Examples
    --------
    >>> body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()).eval()
    >>> pictures = torch.rand(2, 3, 16, 16)
    >>> torch.allclose(evaluation_form(body)(pictures), body(pictures), atol=1e-5)
    True
    """
    own = copy.deepcopy(body).eval().requires_grad_(False)
    network = _traced(own)
    if network is None:
        return own.to(memory_format=torch.channels_last)
    _fold_norms(network)
    network = network.to(memory_format=torch.channels_last)
    if has_packed_convolutions():
        _pack_convolutions(network)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def has_packed_convolutions() -> bool:
    """Whether this build of torch has what `PackedConv2d` calls, which torch does not promise."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and all(hasattr(torch.ops.mkldnn, name) for name in _KERNELS)


class PackedConv2d(nn.Module):
    """A convolution, with a sum and a ReLU while its output is still in the processor's cache.

    By the kernels of oneDNN that torch's own compiler calls, without a compiler.

    Parameters
    ----------
    conv : one that `can_pack`.
    relu : whether a ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.place = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.relu = relu
        # in the order in which the kernels read it
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.place)
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, pictures: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, in, H, W), and what is added (B, out, h, w) -> (B, out, h, w)."""
        conv, learned = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias, *self.place)
        out: Tensor
        if added is None:
            out = conv(pictures, *learned, "relu" if self.relu else "none", [], "")  # (B, out, h, w)
            return out
        after = "relu" if self.relu else None
        out = conv.binary(pictures, added, *learned, "add", 1.0, after, [], "")  # (B, out, h, w)
        if out.shape == added.shape:
            return out
        # the kernel stretches what is added, never its own output
        out = conv(pictures, *learned, "none", [], "") + added
        return out.relu() if self.relu else out


def can_pack(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether `PackedConv2d` can take its place."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


class _NormTracer(fx.Tracer):
    """Looks into modules that hold a batch norm; others are called whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or not _holds_norms(m)


def _holds_norms(module: nn.Module) -> bool:
    return any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def _traced(body: nn.Module) -> fx.GraphModule | None:
    """Its calls in order; None where there is nothing to fold, or where they depend on the pictures."""
    if not _holds_norms(body):
        return None
    try:
        return fx.GraphModule(body, _NormTracer().trace(body))
    except fx.proxy.TraceError:
        return None


def _fold_norms(network: fx.GraphModule) -> None:
    """Make each batch norm part of the convolution before it."""
    calls = Counter(node.target for node in network.graph.nodes)
    for node in list(network.graph.nodes):
        norm, activation = _called(network, node), _activation(_called(network, node))
        before = node.all_input_nodes[0] if node.all_input_nodes else node
        conv = _called(network, before)
        alone = set(before.users) == {node} and calls[before.target] == calls[node.target] == 1
        if isinstance(norm, nn.BatchNorm2d) and activation is not None and type(conv) is nn.Conv2d and alone:
            network.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            network.set_submodule(str(node.target), activation)
        if isinstance(_called(network, node), nn.Identity):
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)


def _pack_convolutions(network: fx.GraphModule) -> None:
    """Make a sum and a ReLU part of the convolution right before them."""
    for node in list(network.graph.nodes):
        conv = _called(network, node)
        if not can_pack(conv):
            continue
        joined = [node]
        if _is_sum(node.next) and set(node.users) == {node.next}:
            joined.append(node.next)
        added = [other for other in joined[-1].all_input_nodes if other is not node] if joined[1:] else []
        after = joined[-1].next
        if relu := _is_relu(network, after) and set(joined[-1].users) == {after}:
            joined.append(after)
        name = str(node.name) + "_packed"
        network.add_module(name, PackedConv2d(conv, relu))
        with network.graph.inserting_before(node):
            packed = network.graph.call_module(name, (node.args[0], *added))
        joined[-1].replace_all_uses_with(packed)
        for done in reversed(joined):
            network.graph.erase_node(done)


def _called(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _activation(norm: nn.Module | None) -> nn.Module | None:
    """What a batch norm with statistics of its own calls after norming; None of one of another kind."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        return None
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    from timm.layers.norm_act import BatchNormAct2d

    if type(norm) is BatchNormAct2d and isinstance(norm.drop, nn.Identity):
        return norm.act
    return None


def _is_sum(node: fx.Node) -> bool:
    return node.target in _SUMS and not node.kwargs and len(node.all_input_nodes) == len(node.args) == 2


def _is_relu(network: fx.GraphModule, node: fx.Node) -> bool:
    return type(_called(network, node)) is nn.ReLU or node.target in _RELUS
