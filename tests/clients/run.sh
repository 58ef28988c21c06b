#!/usr/bin/env bash
# Runs the client suites against `nearkin serve` on a free port and an empty folder, and prints what passed. Clients are installed,
# pinned, under target/ when what is pinned changed. `run.sh all` adds LangChain, LlamaIndex and LiteLLM, which are large: 1 GB.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary=${NEARKIN:-target/debug/nearkin}
seed=${SEED:-1} steps=${STEPS:-1200}
here=tests/clients
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here

# A folder is as its stamp says, or is made anew.
is_made() { [[ -f $1/stamp ]] && cmp -s "$1/stamp" "$2"; }

install_python() {
  is_made "$1" "$2" && return
  rm -rf "$1"
  if ! python3 -m venv "$1" 2>/dev/null; then
    ((EUID == 0)) || { echo 'python3-venv is missing, and only root can install it' >&2; exit 1; }
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    python3 -m venv --clear "$1"
  fi
  "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
  cp "$2" "$1/stamp"
}

install_node() {
  is_made "$1" $here/package.json && return
  rm -rf "$1" && mkdir -p "$1"
  cp $here/package.json "$1/package.json"
  npm install --silent --no-audit --no-fund --prefix "$1" >/dev/null
  cp $here/package.json "$1/stamp"
}

work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

start_server() {
  : >"$work/log"
  "$binary" serve --data "$work/data" --bind 127.0.0.1:0 >"$work/log" 2>&1 &
  server=$!
  local i
  for ((i = 0; i < 300; i++)); do
    url=$(sed -n 's/^listening at //p' "$work/log")
    [[ -z $url ]] || return 0
    kill -0 $server 2>/dev/null || break
    sleep 0.1
  done
  echo "nearkin serve did not start:" >&2
  cat "$work/log" >&2
  exit 1
}

failed=()
suite() {
  local name=$1 start=$SECONDS
  shift
  "$@" || failed+=("$name")
  printf 'step: clients: %s: %d s\n' "$name" $((SECONDS - start))
}

install_python target/clients-venv $here/requirements.txt
start_server
python=target/clients-venv/bin/python
suite qdrant-client $python $here/qdrant_sync.py "$url"
suite 'qdrant-client async' $python $here/qdrant_async.py "$url"
suite replay $python $here/replay.py "$url"
export NEARKIN=$binary
suite openai $python $here/cache_openai.py
suite langcache $python $here/cache_langcache.py "$url"
suite differential $python -m differential --url "$url" --seed "$seed" --steps "$steps"
if command -v npm >/dev/null; then
  install_node target/clients-node
  suite js-client-rest env -C target/clients-node node "$PWD/$here/rest.mjs" "$url"
else
  echo 'js-client-rest: SKIPPED, npm is missing'
fi
install_python target/clients-venv-described $here/requirements-described.txt
suite described target/clients-venv-described/bin/python -m described "$url" --seed "$seed"
if [[ ${1:-} == all ]]; then
  install_python target/clients-venv-all $here/requirements-all.txt
  for name in langchain_store llama_index_store litellm_cache litellm_proxy; do
    suite $name target/clients-venv-all/bin/python $here/$name.py "$url"
  done
  suite cache_frameworks target/clients-venv-all/bin/python $here/cache_frameworks.py
fi
if ! kill -0 $server; then
  failed+=('the server, which ended:')
  tail -20 "$work/log"
fi
((${#failed[@]} == 0)) || { printf 'clients: failed: %s\n' "${failed[*]}"; exit 1; }
