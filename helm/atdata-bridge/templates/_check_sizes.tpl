{{/*
What the configuration lets the bridge take must fit into what Kubernetes gives: else the pod is killed, or its volume is
full, before a limit of the bridge's own holds it.
*/}}
{{- define "atdata-bridge.check.sizes" -}}
{{- include "atdata-bridge.check.memory" . }}
{{- include "atdata-bridge.check.disk" . }}
{{- end -}}

{{/* Events in flight are in memory once, and once more in each Kafka client until Kafka has them. */}}
{{- define "atdata-bridge.check.memory" -}}
{{- $source := default dict .config.source }}
{{- $limit := include "atdata-bridge.bytes" (default dict (default dict .root.Values.resources).limits).memory }}
{{- $inFlight := include "atdata-bridge.bytes" (default "64MiB" $source.max_in_flight) }}
{{- if and $limit $inFlight }}
{{- $sinks := default dict .config.sinks }}
{{- $kafkas := list }}
{{- range $name, $sink := $sinks }}
{{- if kindIs "map" $sink }}
{{- if eq "kafka" (include "atdata-bridge.kindOf" (dict "config" $.config "parent" "sinks" "name" $name)) }}{{ $kafkas = append $kafkas $name }}{{ end }}
{{- end }}
{{- end }}
{{- $share := eq (default "" $source.isolation) "mirror" | ternary (len $sinks | max 1) 1 }}
{{- $parts := list (dict "name" "for the bridge itself" "mebibytes" 64) (dict "name" "config.source.max_in_flight" "mebibytes" (divf $inFlight 1048576 | ceil)) }}
{{- range $kafkas }}
{{- $parts = append $parts (dict "name" (printf "its copy in sinks.%s" .) "mebibytes" (divf $inFlight $share 1048576 | ceil)) }}
{{- end }}
{{- $sum := 0 }}
{{- $terms := list }}
{{- range $parts }}
{{- $sum = add $sum (int64 .mebibytes) }}
{{- $terms = append $terms (printf "%dMi (%s)" (int64 .mebibytes) .name) }}
{{- end }}
{{- if gt (mulf $sum 1048576 | float64) (float64 $limit) }}
resources.limits.memory: {{ .root.Values.resources.limits.memory }} is less than the bridge may take: {{ join " + " $terms }} = {{ $sum }}Mi: raise the limit to {{ $sum }}Mi, or lower config.source.max_in_flight
{{- end }}
{{- end }}
{{- end -}}

{{/* Of the claims that the chart makes: what may be on one until the bridge holds. */}}
{{- define "atdata-bridge.check.disk" -}}
{{- $persistence := .root.Values.persistence }}
{{- $size := include "atdata-bridge.bytes" $persistence.size }}
{{- if and $size (eq .root.Values.kind "StatefulSet") $persistence.enabled (not $persistence.existingClaim) }}
{{- $sum := 0.0 }}
{{- $terms := list }}
{{- range $name, $directory := include "atdata-bridge.directories" .config | fromJson }}
{{- $path := splitList "." $name | rest }}
{{- $table := get $.config (first $path) }}
{{- if rest $path }}{{ $table = get $table (last $path) }}{{ end }}
{{- $most := $table.max_total | default (eq $name "config.dead_letters" | ternary "1GiB" "") }}
{{- if and (eq "data" (include "atdata-bridge.volumeOf" (dict "root" $.root "directory" $directory))) $most }}
{{- $sum = addf $sum (include "atdata-bridge.bytes" $most | float64) }}
{{- $terms = append $terms (printf "%s (%s.max_total)" (include "atdata-bridge.text" $most) $name) }}
{{- end }}
{{- end }}
{{- if gt $sum (float64 $size) }}
persistence.size: {{ $persistence.size }} is less than may be on a volume: {{ join " + " $terms }}: raise it to {{ divf $sum 1073741824 | ceil }}Gi, or lower max_total
{{- end }}
{{- end }}
{{- end -}}

{{/* A size as the bridge or Kubernetes writes it, in bytes; nothing if it is neither. */}}
{{- define "atdata-bridge.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "m" 1000000 "g" 1000000000 "t" 1000000000000 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 }}
{{- $text := include "atdata-bridge.text" . | nospace | lower | trimSuffix "b" }}
{{- if regexMatch "^[0-9]+([.][0-9]+)?([kmgt]i?)?$" $text }}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $units (regexFind "[a-z]*$" $text)) | float64 | printf "%.0f" }}
{{- end }}
{{- end -}}
