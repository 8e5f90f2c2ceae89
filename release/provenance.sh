#!/usr/bin/env bash
# Prints the provenance of a release, a SLSA v1 predicate: which commit it was built from, by whom and with which inputs.
# In GitHub Actions the facts come from the variables of the run, elsewhere from the tree.
#
#   provenance.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. release/tools.sh

[ $# = 0 ] || usage "$0"

# The files of the tree that pin everything else that goes into a release.
pins() {
    local file
    for file in Cargo.lock Dockerfile; do
        jq -nc --arg name "$file" --arg digest "$(digest_of "$file")" '{name: $name, digest: {sha256: $digest}}'
    done
}

on_github() {
    jq -n --argjson pins "$(pins | jq -s .)" '
        def of($name): env[$name] // "" | if . == "" then error($name + " is not set") else . end;
        (of("GITHUB_SERVER_URL") + "/" + of("GITHUB_REPOSITORY")) as $source |
        # OWNER/REPOSITORY/PATH@REF
        of("GITHUB_WORKFLOW_REF") as $workflow |
        {
            buildDefinition: {
                buildType: "https://actions.github.io/buildtypes/workflow/v1",
                externalParameters: {workflow: {
                    ref: of("GITHUB_REF"),
                    repository: $source,
                    path: ($workflow | ltrimstr(of("GITHUB_REPOSITORY") + "/") | split("@")[0])
                }},
                internalParameters: {github: {
                    event_name: of("GITHUB_EVENT_NAME"),
                    repository_id: of("GITHUB_REPOSITORY_ID"),
                    repository_owner_id: of("GITHUB_REPOSITORY_OWNER_ID"),
                    runner_environment: of("RUNNER_ENVIRONMENT")
                }},
                resolvedDependencies: ([{
                    uri: ("git+" + $source + "@" + of("GITHUB_REF")),
                    digest: {gitCommit: of("GITHUB_SHA")}
                }] + $pins)
            },
            runDetails: {
                builder: {id: (of("GITHUB_SERVER_URL") + "/" + $workflow)},
                metadata: {invocationId: ($source + "/actions/runs/" + of("GITHUB_RUN_ID") + "/attempts/" + of("GITHUB_RUN_ATTEMPT"))}
            }
        }'
}

# Nobody vouches for the machine, and the predicate says so.
elsewhere() {
    local changed=false
    [ -z "$(git status --porcelain)" ] || changed=true
    jq -n --argjson pins "$(pins | jq -s .)" --arg commit "$(git rev-parse HEAD)" --argjson changed "$changed" \
        --arg source "${RELEASE_SOURCE:-}" '{
            buildDefinition: {
                buildType: "urn:atdata-bridge:release-scripts:v1",
                externalParameters: {scripts: ["release/build.sh", "release/package.sh"]},
                internalParameters: {uncommittedChanges: $changed},
                resolvedDependencies: ([{
                    uri: (if $source == "" then "urn:atdata-bridge:source" else "git+" + $source end),
                    digest: {gitCommit: $commit}
                }] + $pins)
            },
            runDetails: {builder: {id: "urn:atdata-bridge:unattested-machine"}}
        }'
}

if [ "${GITHUB_ACTIONS:-}" = true ]; then on_github; else elsewhere; fi
