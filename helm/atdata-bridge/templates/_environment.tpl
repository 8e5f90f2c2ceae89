{{/* The container's variables that the values name, as JSON: a list of `{name, value}` and `{name, valueFrom}`. */}}
{{- define "atdata-bridge.environment" -}}
{{- include "atdata-bridge.rendered" (dict "root" . "value" .Values.extraEnv) | fromYamlArray | toJson }}
{{- end -}}

{{/*
The configuration that the bridge will have, as JSON, as far as the chart can know it: `config`, and the variables over
it. An option that comes out of a Secret has the value `$(VARIABLE)`.
*/}}
{{- define "atdata-bridge.effective" -}}
{{- $tree := mustDeepCopy .config }}
{{- range $variable, $reference := .variables }}
{{- include "atdata-bridge.effective.set" (dict "tree" $tree "variable" $variable "value" nil) }}
{{- end }}
{{- range .environment }}
{{- include "atdata-bridge.effective.set" (dict "tree" $tree "variable" .name "value" .value) }}
{{- end }}
{{- toJson $tree }}
{{- end -}}

{{- define "atdata-bridge.effective.set" -}}
{{- if hasPrefix "BRIDGE__" .variable }}
{{- $path := trimPrefix "BRIDGE__" .variable | lower | splitList "__" }}
{{- $table := .tree }}
{{- range initial $path }}
{{- if not (kindIs "map" (get $table .)) }}{{ $_ := set $table . dict }}{{ end }}
{{- $table = get $table . }}
{{- end }}
{{- $_ := set $table (last $path) (kindIs "invalid" .value | ternary (printf "$(%s)" .variable) .value) }}
{{- end }}
{{- end -}}

{{/* The items of a list, one a line; in a variable commas are between them. */}}
{{- define "atdata-bridge.items" -}}
{{- range kindIs "slice" . | ternary . (toString . | splitList ",") }}
{{ toString . | trim }}
{{- end }}
{{- end -}}
