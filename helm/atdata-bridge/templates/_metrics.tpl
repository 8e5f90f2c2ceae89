{{/* What a monitor says of all its targets. */}}
{{- define "atdata-bridge.monitor" -}}
{{- with .jobLabel }}
jobLabel: {{ . }}
{{- end }}
{{- with .podTargetLabels }}
podTargetLabels: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* The only endpoint of a monitor, as a list, with what the values say of it. */}}
{{- define "atdata-bridge.endpoints" -}}
{{- $endpoint := include "atdata-bridge.scraping" . | fromYaml }}
{{- include "atdata-bridge.patch" (dict "tree" $endpoint "patch" .endpoint) }}
{{- toYaml (list $endpoint) }}
{{- end -}}

{{/* How a monitor scrapes. */}}
{{- define "atdata-bridge.scraping" -}}
port: admin
path: /metrics
{{- if eq .scheme "https" }}
scheme: https
{{- end }}
honorLabels: {{ .honorLabels }}
{{- range $name := list "interval" "scrapeTimeout" }}
{{- with get $ $name }}
{{ $name }}: {{ . }}
{{- end }}
{{- end }}
{{- range $name := list "relabelings" "metricRelabelings" }}
{{- with get $ $name }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The shipped alerts, with what the values say of each. Not through `tpl`: their braces are Prometheus's own. */}}
{{- define "atdata-bridge.alerts" -}}
{{- $name := include "atdata-bridge.fullname" . -}}
{{- $namespace := include "atdata-bridge.namespace" . -}}
{{- $suffix := eq .Values.kind "StatefulSet" | ternary "[0-9]+" "[a-z0-9]+-[a-z0-9]{5}" -}}
{{- if and (eq .Values.kind "Deployment") (gt (len $name) 46) }}
{{- /* Kubernetes cuts the name of a Deployment's pod off after 58 characters, before the last five: `NAME-HASH-`. */}}
{{- $suffix = "[a-z0-9]{1,10}-?[a-z0-9]{5}" }}
{{- end }}
{{- $claim := default (printf "data-%s-[0-9]+" $name) .Values.persistence.existingClaim -}}
{{- $hasVolume := include "atdata-bridge.mountsData" . -}}
{{- $replicas := .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas (include "atdata-bridge.replicas" . | default "1") | int64 -}}
{{- $kept := list -}}
{{- range .Files.Get "rules/alerts.yaml" | fromYamlArray }}
{{- $values := default dict (get $.Values.metrics.prometheusRule.alerts .alert) }}
{{- $applies := and $values.enabled (or $hasVolume (ne .alert "AtDataBridgeVolumeFull")) }}
{{- if $applies }}
{{- $text := toRawJson .
  | replace "$(pods)" (printf "namespace='%s',pod=~'%s-%s'" $namespace $name $suffix)
  | replace "$(claims)" (printf "namespace='%s',persistentvolumeclaim=~'%s'" $namespace $claim)
  | replace "$(replicas)" (toString $replicas)
  | replace "$(name)" $name
  | replace "$(namespace)" $namespace
  | replace "$(threshold)" (include "atdata-bridge.toml.value" $values.threshold) }}
{{- $labels := merge (dict "severity" $values.severity) (default dict $.Values.metrics.prometheusRule.alertLabels) }}
{{- $kept = append $kept (merge (fromJson $text) (dict "for" $values.for "labels" $labels)) }}
{{- end }}
{{- end }}
{{- with $kept }}{{ toYaml . }}{{ end }}
{{- end -}}
