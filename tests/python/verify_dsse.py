"""Has securesystemslib verify a DSSE envelope, then each one-bit change of its payload and of its signature.

    verify_dsse.py KEY.pem ENVELOPE.json

Prints how many changes were refused; fails when the envelope is refused or a change is accepted.
"""

import json
import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature, SSlibKey


def accepts(key: SSlibKey, payload: bytes, payload_type: str, keyid: str, signature: bytes) -> bool:
    envelope = Envelope(payload, payload_type, {keyid: Signature(keyid, signature.hex())})
    try:
        envelope.verify([key], 1)
    except VerificationError:
        return False
    return True


def flips(content: bytes):
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield bytes(changed)


def main() -> None:
    pem, path = sys.argv[1:]
    document = json.loads(pathlib.Path(path).read_text())
    keyid = document["signatures"][0]["keyid"]
    public = serialization.load_pem_public_key(pathlib.Path(pem).read_bytes())
    key = SSlibKey.from_crypto(public, keyid=keyid)

    envelope = Envelope.from_dict(document)
    envelope.verify([key], 1)
    payload, payload_type = envelope.payload, envelope.payload_type
    signature = bytes.fromhex(envelope.signatures[keyid].signature)
    assert accepts(key, payload, payload_type, keyid, signature)

    refused = 0
    for changed in flips(payload):
        assert not accepts(key, changed, payload_type, keyid, signature), "a changed payload was accepted"
        refused += 1
    for changed in flips(signature):
        assert not accepts(key, payload, payload_type, keyid, changed), "a changed signature was accepted"
        refused += 1
    for changed in flips(payload_type.encode()):
        if changed.isascii():
            assert not accepts(key, payload, changed.decode(), keyid, signature), "a changed type was accepted"
            refused += 1
    print(refused)


if __name__ == "__main__":
    main()
