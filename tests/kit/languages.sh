# What provision.sh of the rivals and of the consumers share: programs of Go, Java and Python, from folders with
# these names. They source this after provision.sh, and name it in made_from.

# shellcheck shell=sh disable=SC2154 # what the sourcing script says
packages='golang-go default-jdk-headless maven python3-venv'

missing() {
    "missing_$1"
}

# Since 1.21, Go gets by itself the newer Go that a module asks for.
missing_go() {
    command -v go >/dev/null && [ "$(go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')" -ge 21 ] ||
        echo 'Go 1.21 or newer'
}

missing_java() {
    can_compile_java || echo 'a Java 17 development kit (javac)'
    command -v mvn >/dev/null || echo 'Maven (mvn)'
}

missing_python() {
    command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || echo 'Python with venv'
}

# Builds the module in folder $1 as the program $2.
go_program() {
    (cd "$1" && GOFLAGS=-mod=readonly GOTOOLCHAIN=auto CGO_ENABLED=0 \
        go build -trimpath -buildvcs=false -ldflags=-s -o "$2" .) >&2
}

# Compiles the classes in folder $1 into $2/classes, with the jars of its pom.xml in $2/lib.
java_program() {
    mkdir "$2/lib" "$2/classes"
    (here=$1; jars_of_pom "$2/lib")
    javac -cp "$2/lib/*" -d "$2/classes" "$1"/*.java >&2
}

# Makes $2/venv with the packages that folder $1 requires, beside its programs. A virtual environment finds its
# packages from where its interpreter is: it may be moved.
python_program() {
    python3 -m venv "$2/venv"
    "$2/venv/bin/python" -m pip install -q --disable-pip-version-check -r "$1/requirements.txt" >&2
    cp "$1"/*.py "$2/"
}
