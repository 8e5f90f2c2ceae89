{{/*
A tree as TOML. Not `toToml`, which writes every number of a values file as a float (`1e+06`), nor `tpl`: braces
in the configuration are the bridge's own. First what belongs to a table itself, then the tables in it.
*/}}
{{- define "atdata-bridge.toml" -}}
{{- range $name, $value := .table }}
{{- if not (or (kindIs "invalid" $value) (kindIs "map" $value)) }}
{{ include "atdata-bridge.toml.key" $name }} = {{ include "atdata-bridge.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $name, $value := .table }}
{{- if kindIs "map" $value }}
{{- $path := append $.path (include "atdata-bridge.toml.key" $name) }}
{{- if or (empty $value) (include "atdata-bridge.toml.hasOwn" $value) }}

[{{ join "." $path }}]
{{- end }}
{{- include "atdata-bridge.toml" (dict "table" $value "path" $path) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether anything but tables stands in a table: else its header would say nothing. */}}
{{- define "atdata-bridge.toml.hasOwn" -}}
{{- range . }}{{ if not (or (kindIs "invalid" .) (kindIs "map" .)) }}true{{ end }}{{ end }}
{{- end -}}

{{- define "atdata-bridge.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{/* JSON's escapes are TOML's. */}}
{{- define "atdata-bridge.toml.value" -}}
{{- if typeIs "json.Number" . }}{{ . }}
{{- else if kindIs "string" . }}{{ toRawJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}
{{- else if kindIs "slice" . -}}
{{- $items := list }}
{{- range . }}{{ if not (kindIs "invalid" .) }}{{ $items = append $items (include "atdata-bridge.toml.value" .) }}{{ end }}{{ end -}}
[{{ join ", " $items }}]
{{- else if kindIs "map" . -}}
{{- $members := list }}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- $members = append $members (printf "%s = %s" (include "atdata-bridge.toml.key" $name) (include "atdata-bridge.toml.value" $value)) }}
{{- end }}
{{- end -}}
{ {{- join ", " $members -}} }
{{- else }}{{ printf "%v" . }}
{{- end -}}
{{- end -}}
