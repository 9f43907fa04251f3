// Has Sigstore's verifiers for Node.js verify bundles, with their defaults.
//
//     node verify.mjs MODULES TRUSTED_ROOT.json KEY.pem HINT < BUNDLES
//
// MODULES is the folder that make_modules.py made; BUNDLES is a JSON array of bundles, each as text. Prints an object: for each
// verifier its verdicts, in the order of the bundles: null for accepted, otherwise the reason.

import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [modules, rootPath, keyPath, hint] = process.argv.slice(2);
const bundles = JSON.parse(readFileSync(0, 'utf8'));
const root = JSON.parse(readFileSync(rootPath, 'utf8'));
const rawBytes = createPublicKey(readFileSync(keyPath)).export({ format: 'der', type: 'spki' });

function verdicts(alias) {
  // Each version comes with libraries of its own.
  const require = createRequire(createRequire(`${modules}/`).resolve(alias));
  const { Verifier, toSignedEntity, toTrustMaterial } = require(`${modules}/node_modules/${alias}`);
  const { bundleFromJSON } = require('@sigstore/bundle');
  const { TrustedRoot } = require('@sigstore/protobuf-specs');
  const material = toTrustMaterial(TrustedRoot.fromJSON(root), { [hint]: { rawBytes } });
  const verifier = new Verifier(material);
  return bundles.map((text) => {
    try {
      verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(text))));
      return null;
    } catch (error) {
      return `${error.code ?? error.name}: ${error.message}`;
    }
  });
}

const said = Object.fromEntries(['verify-3', 'verify-4'].map((alias) => [alias, verdicts(alias)]));
process.stdout.write(JSON.stringify(said));
