"""What can be said of the Dart package without a Dart toolchain: by a parser of the language, and by its own declarations.

    dart.py PACKAGE

- every file parses, and so do the README's examples;
- every import and export leads to a file or to a declared dependency, and every shown name is declared there;
- every type that is named is declared by the package, by Dart's own libraries (those used are listed here), or by a
  dependency;
- every private name is declared in its file, or in what it is a part of;
- constructors and methods of the package are called with the arguments that they declare, and with all that they require;
- members of the answer that the README reads are declared.

It is no analysis: types of expressions are not followed, and nothing is run.
"""

import pathlib
import re
import sys

import tree_sitter
import tree_sitter_dart

root = pathlib.Path(sys.argv[1])
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_dart.language()))
faults = []
counted = {"files": 0, "calls": 0, "types": 0, "private names": 0, "imports": 0}

KNOWN = set(
    "int double num bool String Object Map List Set Iterable Function Future FutureOr Duration DateTime Uri Exception Error"
    " ArgumentError StateError FormatException TimeoutException RegExp Random Platform Completer Never Type Symbol void"
    " dynamic Null Encoding BytesBuilder Uint8List"
    # package:http and package:test
    " Client BaseClient BaseRequest Request Response StreamedResponse MockClient ByteStream TypeMatcher isA".split()
)


def walk(node):
    yield node
    for child in node.children:
        yield from walk(child)


def text(node):
    return node.text.decode()


def names(node, kind):
    return [text(child) for child in node.children if child.type == kind]


class Parameters:
    """What a signature takes: the least and most by position, names, and names that are required."""

    def __init__(self, listed):
        self.least = self.most = 0
        self.named, self.required = set(), set()
        for child in listed.children:
            if child.type == "formal_parameter":
                self.least += 1
                self.most += 1
            if child.type == "optional_formal_parameters":
                by_name = text(child.children[0]) == "{"
                required = False
                for part in child.children:
                    if part.type == "required" or text(part) == "required":
                        required = True
                    elif part.type == "formal_parameter":
                        required = required or any(grand.type == "required" for grand in part.children)
                        if by_name:
                            name = [text(one) for one in walk(part) if one.type == "identifier"][-1]
                            self.named.add(name)
                            if required:
                                self.required.add(name)
                        else:
                            self.most += 1
                        required = False

    def fault(self, arguments):
        given = {text(one.child_by_field_name("label") or one.children[0]).rstrip(": ") for one in arguments.children if one.type == "named_argument"}
        placed = sum(1 for one in arguments.children if one.type == "argument")
        if given - self.named:
            return f"knows no argument {', '.join(sorted(given - self.named))}"
        if self.required - given:
            return f"wants {', '.join(sorted(self.required - given))}"
        if not self.least <= placed <= self.most:
            return f"takes {self.least} to {self.most} arguments by position, and is given {placed}"
        return None


def parse(source, where):
    tree = parser.parse(source).root_node
    for node in walk(tree):
        if node.type == "ERROR" or node.is_missing:
            faults.append(f"{where}:{node.start_point[0] + 1}: does not parse: {text(node)[:60]!r}")
    return tree


files = {}
for path in sorted(root.rglob("*.dart")):
    counted["files"] += 1
    files[path] = parse(path.read_bytes(), path)

def declares(node):
    """Whether an identifier is a declaration's name, and not a part of what it is made of."""
    kinds = ("function_signature", "getter_signature", "setter_signature", "class_definition", "static_final_declaration",
             "constructor_signature", "factory_constructor_signature", "constant_constructor_signature", "formal_parameter",
             "mixin_declaration")
    if node.parent.type in kinds:
        return True
    if node.parent.type not in ("initialized_identifier", "initialized_variable_definition"):
        return False
    before = node.prev_sibling
    while before is not None and before.type != "=":
        before = before.prev_sibling
    return before is None


# Declarations.
classes, constructors, methods, members, functions, private = {}, {}, {}, {}, {}, {}
for path, tree in files.items():
    private[path] = {text(node) for node in walk(tree) if node.type == "identifier" and text(node).startswith("_") and declares(node)}
    for node in walk(tree):
        if node.type in ("class_definition", "mixin_declaration", "enum_declaration", "extension_type_declaration"):
            name = names(node, "identifier")[0]
            classes[name] = path
            members.setdefault(name, set())
            if name.startswith("_"):
                private[path].add(name)
            for inner in walk(node):
                if inner.type in ("constructor_signature", "constant_constructor_signature", "factory_constructor_signature"):
                    called = ".".join(names(inner, "identifier"))
                    listed = next(one for one in inner.children if one.type == "formal_parameter_list")
                    constructors[called] = Parameters(listed)
                    private[path].update(part for part in called.split(".") if part.startswith("_"))
                elif inner.type == "function_signature" and inner.parent.type == "method_signature":
                    called = names(inner, "identifier")[-1]
                    listed = next(one for one in inner.children if one.type == "formal_parameter_list")
                    methods.setdefault(called, []).append(Parameters(listed))
                    members[name].add(called)
                elif inner.type in ("getter_signature", "setter_signature"):
                    members[name].add(names(inner, "identifier")[-1])
                elif inner.type in ("initialized_identifier", "static_final_declaration"):
                    members[name].add(names(inner, "identifier")[0])
        if node.type == "function_signature" and node.parent.type == "program":
            called = names(node, "identifier")[-1]
            listed = next(one for one in node.children if one.type == "formal_parameter_list")
            functions[called] = Parameters(listed)
for name in classes:
    constructors.setdefault(name, Parameters(parser.parse(b"void f() {}").root_node.children[0].children[-1]))

# Imports.
pubspec = (root / "pubspec.yaml").read_text()
package = re.search(r"^name: (\S+)", pubspec, re.M)[1]
sections = re.split(r"^(\w+):.*$", pubspec, flags=re.M)
depends = {name: set(re.findall(r"^  (\w+):", sections[sections.index(name) + 1], re.M)) for name in ("dependencies", "dev_dependencies")}
for path, tree in files.items():
    for node in walk(tree):
        if node.type not in ("import_or_export", "part_directive"):
            continue
        uri = re.search(r"['\"]([^'\"]+)['\"]", text(node))[1]
        counted["imports"] += 1
        target = None
        if uri.startswith("dart:"):
            continue
        if uri.startswith("package:"):
            name, rest = uri[len("package:"):].split("/", 1)
            allowed = depends["dependencies"] | {package} | (set() if path.is_relative_to(root / "lib") else depends["dev_dependencies"])
            if name not in allowed:
                faults.append(f"{path}: {name} is no dependency")
            if name != package:
                continue
            target = root / "lib" / rest
        else:
            target = path.parent / uri
        if not target.exists():
            faults.append(f"{path}: there is no {uri}")
        shown = re.search(r"\bshow\s+([\w\s,]+);", text(node))
        for name in re.split(r"\s*,\s*", shown[1].strip()) if shown else []:
            if classes.get(name) is None or classes[name].resolve() != target.resolve():
                faults.append(f"{path}: {uri} declares no {name}")


def call(where, called, arguments):
    counted["calls"] += 1
    known = constructors.get(called) or functions.get(called)
    if known is None and called[0].isupper() and called.split(".")[0] not in KNOWN:
        faults.append(f"{where}:{arguments.start_point[0] + 1}: {called} is not declared")
    if known and (fault := known.fault(arguments)):
        faults.append(f"{where}:{arguments.start_point[0] + 1}: {called} {fault}")


def calls(tree, where):
    for node in walk(tree):
        if node.type in ("new_expression", "const_object_expression"):
            parts = [text(one) for one in node.children if one.type in ("type_identifier", "identifier")]
            arguments = next((one for one in node.children if one.type == "arguments"), None)
            if arguments is not None:
                call(where, ".".join(parts), arguments)
        if node.type != "argument_part":
            continue
        arguments = next((one for one in node.children if one.type == "arguments"), None)
        selector = node.parent
        before = selector.prev_sibling
        if arguments is None or before is None:
            continue
        if before.type == "identifier":
            call(where, text(before), arguments)
        elif before.type == "selector":
            named = [text(one) for one in walk(before) if one.type == "identifier"]
            owner = before.prev_sibling
            if not named:
                continue
            full = f"{text(owner)}.{named[-1]}" if owner is not None and owner.type == "identifier" else ""
            if full in constructors:
                call(where, full, arguments)
            # By a method's name alone, where only the package has such a method and it takes arguments by name.
            elif len(methods.get(named[-1], [])) == 1 and methods[named[-1]][0].named:
                counted["calls"] += 1
                if fault := methods[named[-1]][0].fault(arguments):
                    faults.append(f"{where}:{arguments.start_point[0] + 1}: {named[-1]} {fault}")


for path, tree in files.items():
    calls(tree, path)
    parameters = {text(one) for node in walk(tree) if node.type == "type_parameter" for one in node.children if one.type == "type_identifier"}
    for node in walk(tree):
        if node.type == "type_identifier":
            counted["types"] += 1
            if text(node) not in KNOWN | set(classes) | parameters and not text(node)[0].islower():
                faults.append(f"{path}:{node.start_point[0] + 1}: no type {text(node)} is declared")
        if node.type == "identifier" and text(node).startswith("_") and len(text(node)) > 1:
            counted["private names"] += 1
            if text(node) not in private[path]:
                faults.append(f"{path}:{node.start_point[0] + 1}: {text(node)} is not declared")

# The README's examples are used as they stand.
for number, block in enumerate(re.findall(r"^```dart\n(.*?)^```", (root / "README.md").read_text(), re.M | re.S)):
    where = f"README, example {number + 1}"
    tree = parse(f"Future<void> main() async {{\n{block}\n}}".encode(), where)
    calls(tree, where)
    for member in re.findall(r"\bresponse\.(\w+)", block):
        if member not in members["SentinelResponse"]:
            faults.append(f"{where}: an answer has no {member}")
    counted["files"] += 1

for fault in faults:
    print(fault)
print(f"Dart: no toolchain here, so nothing is analysed or run; {', '.join(f'{n} {what}' for what, n in counted.items())} looked at: {len(faults)} faults")
sys.exit(1 if faults or not all(counted.values()) else 0)
