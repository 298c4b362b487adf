# Steps of the scripts here, each run once. Sourced by them after OUT is set.

mkdir -p "$OUT/.done"

say() { printf '\n== %s\n' "$*"; }

mark() { echo "$OUT/.done/${1//\//.}"; } # of step NAME: there when it is done

# step NAME COMMAND...: run once and remember that it is done.
step() {
    local name=$1 mark start=$SECONDS
    mark=$(mark "$name")
    shift
    if [[ -e $mark ]]; then
        say "$name: done before, $(<"$mark") s"
        return
    fi
    say "$name"
    "$@"
    echo $((SECONDS - start)) >"$mark"
    echo "$name took $((SECONDS - start)) s"
}
