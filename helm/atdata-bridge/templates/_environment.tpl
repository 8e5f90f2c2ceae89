{{/* The container's variables that the values name, as JSON: a list of `{name, value}` and `{name, valueFrom}`. */}}
{{- define "atdata-bridge.environment" -}}
{{- $variables := list }}
{{- with .Values.existingConfigMap }}
{{- $variables = append $variables (dict "name" "BRIDGE__ADMIN__LISTEN" "value" $.Values.config.admin.listen) }}
{{- end }}
{{- with .Values.connectionIdPrefix }}
{{- $variables = append $variables (dict "name" "BRIDGE__SOURCE__CONNECTION_ID" "value" (printf "%s-$(HOSTNAME)" .)) }}
{{- end }}
{{- range $name, $value := default dict .Values.env }}
{{- if kindIs "map" $value }}
{{- $reference := hasKey $value "existingSecret" | ternary (dict "secretKeyRef" (dict "name" $value.existingSecret "key" $value.key)) $value.valueFrom }}
{{- $variables = append $variables (dict "name" $name "valueFrom" $reference) }}
{{- else if not (kindIs "invalid" $value) }}
{{- $variables = append $variables (dict "name" $name "value" (include "atdata-bridge.text" $value)) }}
{{- end }}
{{- end }}
{{- include "atdata-bridge.rendered" (dict "root" . "value" .Values.extraEnv) | fromYamlArray | concat $variables | toJson }}
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
{{- include "atdata-bridge.effective.directories" (dict "root" .root "tree" $tree "unknown" .unknown) }}
{{- toJson $tree }}
{{- end -}}

{{/* Files are on the volume wherever nothing sends them elsewhere: the bridge does the same by BRIDGE_DATA_DIRECTORY. */}}
{{- define "atdata-bridge.effective.directories" -}}
{{- $data := include "atdata-bridge.data" nil }}
{{- $letters := default dict .tree.dead_letters }}
{{- $_ := set .tree "dead_letters" $letters }}
{{- $elsewhere := and .unknown (not (include "atdata-bridge.hasVolume" .root)) }}
{{- range $name, $sink := omit $letters "rotate" }}
{{- if kindIs "map" $sink }}{{ $elsewhere = true }}{{ end }}
{{- end }}
{{- if not (or $elsewhere $letters.directory) }}
{{- $_ := set $letters "directory" (printf "%s/dead-letters" $data) }}
{{- end }}
{{- range $option, $directory := include "atdata-bridge.directories" .tree | fromJson }}
{{- if not $directory }}
{{- $path := splitList "." $option | rest }}
{{- $place := eq (first $path) "sinks" | ternary (printf "%s/sinks/%s" $data (last $path)) (printf "%s/dead-letters" $data) }}
{{- $_ := set (get (get $.tree (first $path)) (last $path)) "directory" $place }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether pods mount the volume of `persistence`: not where nothing writes files. */}}
{{- define "atdata-bridge.mountsData" -}}
{{- $read := include "atdata-bridge.read" . | fromJson }}
{{- $needed := or .Values.persistence.existingClaim $read.unknown (include "atdata-bridge.directories" $read.effective | fromJson) }}
{{- if and (eq .Values.kind "StatefulSet") .Values.persistence.enabled $needed }}true{{ end }}
{{- end -}}

{{/* Whether pods have a volume where their files are by default. */}}
{{- define "atdata-bridge.hasVolume" -}}
{{- include "atdata-bridge.volumeOf" (dict "root" . "directory" (include "atdata-bridge.data" nil)) -}}
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

{{/* What names the queue, as JSON, as far as the chart knows it: the end of the option → its value. */}}
{{- define "atdata-bridge.queue" -}}
{{- $source := default dict .effective.source }}
{{- $queue := dict }}
{{- range $name, $default := dict "namespace" "" "destination_id" "" "isolation" (.unknown | ternary "" "shared") }}
{{- $value := default $default (get $source $name) | toString }}
{{- if and $value (not (contains "$(" $value)) }}{{ $_ := set $queue $name $value }}{{ end }}
{{- end }}
{{- toJson $queue }}
{{- end -}}

{{- define "atdata-bridge.queueName" -}}
{{ include "atdata-bridge.fullname" . }}-queue
{{- end -}}
