"""Holds what lies beside an artifact to the tools that others read it with, and signs the folder.

Usage: provenance_open.py ARTIFACT. Prints JSON: what each of them found. cyclonedx-python-lib has the schemas of CycloneDX and
SPDX, in-toto-attestation the messages of in-toto and SLSA, model-signing the signatures of OpenSSF.
"""

import json
import pathlib
import sys
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from model_signing import signing, verifying


def bill(folder: pathlib.Path) -> str:
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str((folder / "model.cdx.json").read_text())
    return "valid" if errors is None else str(errors)


def statement(folder: pathlib.Path) -> str:
    text = (folder / "provenance.intoto.json").read_text()
    # Unknown fields are errors of the parser.
    whole = json_format.Parse(text, Statement([], "", {}).pb)
    found = Statement([], whole.predicate_type, {})
    found.pb.CopyFrom(whole)
    found.validate()
    predicate = provenance_pb2.Provenance()
    json_format.ParseDict(json_format.MessageToDict(whole.predicate), predicate)
    definition, run = predicate.build_definition, predicate.run_details
    assert definition.build_type and definition.external_parameters and run.builder.id
    for resource in list(whole.subject) + list(definition.resolved_dependencies):
        assert len(bytes.fromhex(resource.digest["sha256"])) == 32, resource
    return "valid"


def signature(folder: pathlib.Path) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as home:
        private, public, signed = (pathlib.Path(home) / name for name in ["private.pem", "public.pem", "model.sig"])
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        pem = serialization.Encoding.PEM
        private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(pem, spki))
        signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, signed)

        def verify() -> None:
            verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, signed)

        verify()
        file = max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        try:
            verify()
        except ValueError:
            return "holds", "found"
        return "holds", f"a flipped bit of {file.name} passes"


folder = pathlib.Path(sys.argv[1])
found = {"bill": bill(folder), "statement": statement(folder)}
found["signature"], found["flipped"] = signature(folder)
print(json.dumps(found))
