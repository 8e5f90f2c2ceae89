{{/* An object of the chart, with what `patches` says of it. */}}
{{- define "atdata-bridge.patched" -}}
{{- $text := include (printf "atdata-bridge.object.%s" .name) .root | trim }}
{{- $patch := get (default dict .root.Values.patches) .name }}
{{- if and $text $patch }}
{{- $object := fromYaml $text }}
{{- include "atdata-bridge.patch" (dict "tree" $object "patch" $patch) }}
{{- toYaml $object }}
{{- else }}
{{- $text }}
{{- end }}
{{- end -}}

{{/* Maps are merged, lists of what has names too, null removes, and everything else is replaced. */}}
{{- define "atdata-bridge.patch" -}}
{{- range $key, $value := .patch }}
{{- $old := get $.tree $key }}
{{- if kindIs "invalid" $value }}
{{- $_ := unset $.tree $key }}
{{- else if and (kindIs "map" $value) (kindIs "map" $old) }}
{{- include "atdata-bridge.patch" (dict "tree" $old "patch" $value) }}
{{- else if and (kindIs "slice" $value) (kindIs "slice" $old) (include "atdata-bridge.areNamed" $value) (include "atdata-bridge.areNamed" $old) }}
{{- $items := $old }}
{{- range $item := $value }}
{{- $isNew := true }}
{{- range $old }}
{{- if eq .name $item.name }}
{{- include "atdata-bridge.patch" (dict "tree" . "patch" $item) }}
{{- $isNew = false }}
{{- end }}
{{- end }}
{{- if $isNew }}{{ $items = append $items $item }}{{ end }}
{{- end }}
{{- $_ := set $.tree $key $items }}
{{- else }}
{{- $_ := set $.tree $key $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "atdata-bridge.areNamed" -}}
{{- $named := true }}
{{- range . }}{{ if not (and (kindIs "map" .) (hasKey . "name")) }}{{ $named = false }}{{ end }}{{ end }}
{{- if $named }}true{{ end }}
{{- end -}}
