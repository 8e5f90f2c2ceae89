{{/* Files need a volume that outlives the pod. */}}
{{- define "atdata-bridge.check.files" -}}
{{- $files := include "atdata-bridge.directories" .config | fromJson }}
{{- $others := "send dead letters to a sink, such as config.dead_letters.kafka.topic" }}
{{- $persistence := .root.Values.persistence }}
{{- if eq .root.Values.kind "Deployment" }}
{{- range keys $files | sortAlpha }}
kind: Deployment: {{ . }} writes files, and the pods of a Deployment have no volume of their own: leave kind at StatefulSet, or {{ $others }}, and have no file sink
{{- end }}
{{- else }}
{{- $volumes := include "atdata-bridge.lastingVolumes" .root | fromJson }}
{{- range $name, $directory := $files }}
{{- $volume := include "atdata-bridge.volumeOf" (dict "root" $.root "directory" $directory) }}
{{- if hasKey $volumes $volume }}
{{- else if hasPrefix (printf "%s/" (include "atdata-bridge.data" nil)) (printf "%s/" (clean $directory)) | and (not $volume) }}
persistence.enabled: false: {{ $name }} would lose its files with the pod: leave it true, set a directory of a volume of your own (extraVolumes, extraVolumeMounts), or {{ $others }}
{{- else if $volume }}
{{ $name }}: {{ $directory }} is on {{ $volume }}, which ends with the pod: name a volume in extraVolumes that lasts, such as a persistentVolumeClaim
{{- else }}
{{ $name }}: nothing is mounted at {{ $directory }}, where the container can't write: choose a directory below {{ include "atdata-bridge.data" nil }}, or one of a volume of your own (extraVolumes, extraVolumeMounts)
{{- end }}
{{- end }}
{{- if and $persistence.enabled (not $persistence.existingClaim) $files }}
{{- range $when, $what := $persistence.retentionPolicy }}
{{- if eq (default "" $what) "Delete" }}
persistence.retentionPolicy.{{ $when }}: Delete would delete what nobody has taken from the claims ({{ keys $files | sortAlpha | join ", " }}): leave it at Retain, and delete a claim yourself once it is empty
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volume that a directory is on: of what is mounted above it the nearest; nothing if there is none. */}}
{{- define "atdata-bridge.volumeOf" -}}
{{- $mounts := include "atdata-bridge.rendered" (dict "root" .root "value" .root.Values.extraVolumeMounts) | fromYamlArray }}
{{- if and (eq .root.Values.kind "StatefulSet") .root.Values.persistence.enabled }}
{{- $mounts = prepend $mounts (dict "name" "data" "mountPath" (include "atdata-bridge.data" nil)) }}
{{- end }}
{{- $nearest := dict "path" "" "name" "" }}
{{- range $mounts }}
{{- $path := printf "%s/" (clean .mountPath | trimSuffix "/") }}
{{- if and (hasPrefix $path (printf "%s/" (clean $.directory))) (gt (len $path) (len $nearest.path)) }}
{{- $nearest = dict "path" $path "name" .name }}
{{- end }}
{{- end }}
{{- $nearest.name }}
{{- end -}}

{{/* The names of the volumes that outlive a pod, as the keys of JSON. A volume of which nothing is said is an emptyDir. */}}
{{- define "atdata-bridge.lastingVolumes" -}}
{{- $names := dict }}
{{- if .Values.persistence.enabled }}{{ $_ := set $names "data" true }}{{ end }}
{{- range include "atdata-bridge.rendered" (dict "root" . "value" .Values.extraVolumes) | fromYamlArray }}
{{- if omit . "name" "emptyDir" "ephemeral" "configMap" "secret" "projected" "downwardAPI" }}{{ $_ := set $names .name true }}{{ end }}
{{- end }}
{{- toJson $names }}
{{- end -}}
