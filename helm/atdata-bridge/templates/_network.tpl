{{/* The ports that the bridge connects to, one a line, as far as the configuration tells; nothing if it names no broker. */}}
{{- define "atdata-bridge.ports" -}}
{{- $source := default dict .source }}
{{- $urls := concat (compact (list $source.url)) (default list $source.urls) }}
{{- if $urls }}
{{- range $urls }}
{{ regexFind "[0-9]+$" (trimSuffix "/" (toString .)) }}
{{- end }}
{{- range $parent := list .sinks .dead_letters }}
{{- range $name, $sink := default dict $parent }}
{{- if kindIs "map" $sink }}
{{- range default list $sink.brokers }}
{{ regexFind ":[0-9]+$" . | default ":9092" | trimPrefix ":" }}
{{- end }}
{{- if kindIs "string" $sink.url }}
{{- range splitList "," $sink.url }}
{{ regexFind ":[0-9]+$" (trim .) | default ":4222" | trimPrefix ":" }}
{{- end }}
{{- end }}
{{- with dig "sasl" "token_url" "" $sink }}
{{ regexFind "^https?://[^/]*" . | regexFind ":[0-9]+$" | default (hasPrefix "http:" . | ternary ":80" ":443") | trimPrefix ":" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The ports of the DNS server's pods, as JSON: policies see these, not those of its Service. */}}
{{- define "atdata-bridge.dnsPorts" -}}
{{ default (.Values.openshift | ternary (list 53 5353) (list 53)) .Values.networkPolicy.dnsPorts | toJson }}
{{- end -}}

{{/* What the pod of `helm test` is called: never by the selector's labels, or the Service would name it too. */}}
{{- define "atdata-bridge.testName" -}}
{{ include "atdata-bridge.name" . }}-test
{{- end -}}
