"""The operators that a file asks its runtime for."""

import collections
import pathlib

# Of a SavedModel: what computes nothing.
PLUMBING = {"Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "PartitionedCall"}
PLUMBING |= {"StatefulPartitionedCall", "IdentityN", "VarHandleOp"}


def used(run, path):
    """The operators of a file and how often each occurs.

    Args:
        run: The file, as `kdkeras.runtimes` loads it.
        path: The file; `.tflite`, `.onnx`, or a SavedModel folder.

    Returns:
        Dict from names to counts, most frequent first.
    """
    path = pathlib.Path(path)
    if path.suffix == ".tflite":
        names = _of_tflite(path)
    elif path.suffix == ".onnx":
        import onnx

        names = [node.op_type for node in onnx.load(path).graph.node]
    else:
        graph = run.loaded.signatures["serving_default"].graph.as_graph_def()
        names = [node.op for function in graph.library.function for node in function.node_def]
        names = [name for name in names if name not in PLUMBING]
    return dict(collections.Counter(names).most_common())


def _of_tflite(path):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    # Old files keep the code in a byte of its own.
    codes = [
        max(operator.builtinCode, operator.deprecatedBuiltinCode)
        for operator in model.operatorCodes
    ]
    return [
        names[codes[operator.opcodeIndex]]
        for graph in model.subgraphs
        for operator in graph.operators
    ]
