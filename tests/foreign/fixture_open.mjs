// Opens an ONNX artifact of a fixture with transformers.js under Node, and generates from the recorded sources.
//
// usage: node fixture_open.mjs NODE_MODULES DIR EXPECTED.safetensors
//
// NODE_MODULES has @huggingface/transformers. Prints one line of JSON: what generated.mjs returns, and "version". Nothing is
// fetched.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { generated } from "./generated.mjs";

const [modules, folder, expected] = process.argv.slice(2);
const home = path.resolve(modules, "@huggingface/transformers");
const { main, exports, version } = JSON.parse(fs.readFileSync(path.join(home, "package.json")));
const entry = exports?.node?.import?.default ?? exports?.node?.import ?? main;
const library = await import(pathToFileURL(path.join(home, entry)));
library.env.allowRemoteModels = false;

const { buffer, byteOffset, byteLength } = fs.readFileSync(expected);
const recorded = buffer.slice(byteOffset, byteOffset + byteLength);
const { model_type } = JSON.parse(fs.readFileSync(path.join(folder, "config.json")));
// An absolute path is no name on a hub, so it is taken for a path.
console.log(JSON.stringify({ ...(await generated(library, path.resolve(folder), model_type, recorded)), version }));
