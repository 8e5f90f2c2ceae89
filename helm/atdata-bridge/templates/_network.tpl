{{/* The ports that the bridge connects to, one a line; for one that the chart can't know, `?` and the option instead. */}}
{{- define "atdata-bridge.ports" -}}
{{- if .unknown }}
? extraEnvFrom or existingConfigMap
{{- end }}
{{- $source := default dict .effective.source }}
{{- include "atdata-bridge.ports.table" (dict "path" "source" "table" $source) }}
{{- if not (or $source.url $source.urls) }}
? source.url
{{- end }}
{{- range $parent := list "sinks" "dead_letters" }}
{{- range $name, $sink := omit (default dict (get $.effective $parent)) "rotate" }}
{{- if kindIs "map" $sink }}
{{- $path := printf "%s.%s" $parent $name }}
{{- $ports := include "atdata-bridge.ports.table" (dict "path" $path "table" $sink) }}
{{- $ports }}
{{- $hasLike := and (eq $parent "dead_letters") (hasKey (default dict $.effective.sinks) $name) }}
{{- if not (or (trim $ports) $hasLike (has (default $name $sink.kind) (list "file" "stdout"))) }}
? {{ $path }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The ports of a table's addresses: of brokers, of urls, and of whatever looks like a url. */}}
{{- define "atdata-bridge.ports.table" -}}
{{- $usual := dict "http" 80 "https" 443 "ws" 80 "wss" 443 "nats" 4222 "tls" 4222 }}
{{- range $name, $value := .table }}
{{- $option := printf "%s.%s" $.path $name }}
{{- $isAddress := regexMatch "(^|_)(brokers|urls?)$" $name }}
{{- if kindIs "map" $value }}
{{- include "atdata-bridge.ports.table" (dict "path" $option "table" $value) }}
{{- else if or $isAddress (contains "://" (toString $value)) }}
{{- range include "atdata-bridge.items" $value | splitList "\n" | compact }}
{{- $address := regexFind "^([a-z+]+://)?[^/]*" . }}
{{- $scheme := regexFind "^[a-z+]+:" $address | trimSuffix ":" }}
{{- $default := eq $name "brokers" | ternary 9092 (get $usual (default "nats" $scheme)) }}
{{ regexFind ":[0-9]+$" $address | trimPrefix ":" | default (contains "$(" . | ternary "" (toString $default)) | default (printf "? %s" $option) }}
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
