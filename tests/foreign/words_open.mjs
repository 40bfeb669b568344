// What a text model answers in transformers.js under Node, by the code of examples/browser.
//
// usage: node words_open.mjs NODE_MODULES DIR WORD...
//
// Prints one line of JSON: [{"given", "text", "tokens", "perSecond"}]. Nothing is fetched.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { reader } from "../../examples/browser/models.mjs";

const [modules, folder, ...words] = process.argv.slice(2);
const library = await import(pathToFileURL(resolve(modules, "@huggingface/transformers/dist/transformers.node.mjs")));
library.env.allowRemoteModels = false;
const read = await reader(library, resolve(folder));
const found = [];
for (const given of words) found.push({ given, ...(await read(given)) });
console.log(JSON.stringify(found));
