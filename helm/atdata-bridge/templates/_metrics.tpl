{{/* How a monitor scrapes. */}}
{{- define "atdata-bridge.scraping" -}}
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
