{{/*
Refuses what can't work, all of it at once, before anything is installed. What the chart can't know (variables from
extraEnvFrom) it leaves to the bridge, which says the same when it starts.
*/}}
{{- define "atdata-bridge.check" -}}
{{- $read := include "atdata-bridge.read" . | fromJson }}
{{- $parts := merge (dict "root" . "read" $read "config" $read.effective) $read }}
{{- $problems := $read.problems }}
{{- range list "required" "names" "kind" "files" "deadLetters" "shutdown" "sizes" "identity" "environment" "volumes" "templates" "others" }}
{{- range include (printf "atdata-bridge.check.%s" .) $parts | splitList "\n" }}
{{- $problems = append $problems (trim .) }}
{{- end }}
{{- end }}
{{- with compact $problems }}
{{- fail (printf "\n\natdata-bridge can't be installed with these values:\n  - %s\n" (join "\n  - " .)) }}
{{- end }}
{{- end -}}

{{- define "atdata-bridge.check.required" -}}
{{- if not .unknown }}
{{- $source := default dict .config.source }}
{{- range list "url" "username" "password_file" "namespace" "destination_id" }}
{{- if not (or (get $source .) (get $source (get (dict "url" "urls" "password_file" "password") .))) }}
{{- if eq . "password_file" }}
config.source.password_file is missing: name the Secret that holds AtData's password, config.source.password_file.existingSecret
{{- else }}
config.source.{{ . }} is missing: {{ get (dict "username" "AtData gave it to you, 4 or 5 digits" "namespace" "AtData gave it to you" "destination_id" "choose the name of your queue, once and for all, such as main" "url" "stomp+tls://host:port, or ssl://host:port for OpenWire; AtData tells host and port") . }}
{{- end }}
{{- end }}
{{- end }}
{{- $sinks := false }}
{{- range $name, $sink := default dict .config.sinks }}{{ if kindIs "map" $sink }}{{ $sinks = true }}{{ end }}{{ end }}
{{- if not $sinks }}
config.sinks is empty: say where the events go, such as config.sinks.kafka with brokers and topic
{{- end }}
{{- end }}
{{- end -}}

{{/* A Service is named after the release, and its names must begin with a letter. */}}
{{- define "atdata-bridge.check.names" -}}
{{- $name := include "atdata-bridge.fullname" .root }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
the objects would be named {{ quote $name }}, and Kubernetes wants small letters, digits and dashes, a letter first: choose another name of the release, or set fullnameOverride
{{- end }}
{{- end -}}

{{- define "atdata-bridge.check.kind" -}}
{{- $kind := .root.Values.kind }}
{{- $types := get (dict "StatefulSet" (list "RollingUpdate" "OnDelete") "Deployment" (list "RollingUpdate" "Recreate")) $kind }}
{{- with (default dict .root.Values.updateStrategy).type }}
{{- if not (has . $types) }}
updateStrategy.type: a {{ $kind }} knows no {{ . }}: write {{ join " or " $types }}
{{- end }}
{{- end }}
{{- with .root.Values.autoscaling }}
{{- if and .enabled (gt (int64 .minReplicas) (int64 .maxReplicas)) }}
autoscaling: minReplicas, {{ int64 .minReplicas }}, is more than maxReplicas, {{ int64 .maxReplicas }}: raise maxReplicas or lower minReplicas
{{- end }}
{{- end }}
{{- end -}}

{{/* What goes to the standard output is gone, and a dead letter is mirrored nowhere else. */}}
{{- define "atdata-bridge.check.deadLetters" -}}
{{- range $name, $sink := omit .config.dead_letters "rotate" }}
{{- if kindIs "map" $sink }}
{{- if eq "stdout" (include "atdata-bridge.kindOf" (dict "config" $.config "parent" "dead_letters" "name" $name)) }}
config.dead_letters.{{ $name }}: dead letters would be lost with the log, where nothing makes them durable: leave it out, and they are kept on the volume, or send them to a topic, such as config.dead_letters.kafka.topic
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The kubelet kills after the grace period, and what is on its way then comes again. */}}
{{- define "atdata-bridge.check.shutdown" -}}
{{- $grace := int64 .root.Values.terminationGracePeriodSeconds }}
{{- $text := dig "shutdown" "drain_timeout" "25s" .config | toString }}
{{- $seconds := include "atdata-bridge.seconds" $text }}
{{- if eq $seconds "" }}
config.shutdown.drain_timeout: {{ $text }} is not understood: write seconds, such as 25s
{{- else }}
{{- $sleep := (default dict (default dict (default dict .root.Values.lifecycle).preStop).sleep).seconds | int64 }}
{{- $needed := addf $seconds $sleep 5 | ceil | int64 }}
{{- if gt $needed $grace }}
terminationGracePeriodSeconds: {{ $grace }} leaves no time to drain: raise it to {{ $needed }} or more, config.shutdown.drain_timeout, {{ $text }}, {{ if $sleep }}the {{ $sleep }} s of lifecycle.preStop.sleep, {{ end }}and 5 s
{{- end }}
{{- end }}
{{- end -}}

{{/* A length of time as the bridge reads it, in seconds; nothing if it is none. */}}
{{- define "atdata-bridge.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1 "sec" 1 "secs" 1 "second" 1 "seconds" 1 "m" 60 "min" 60 "mins" 60 "minute" 60 "minutes" 60 "h" 3600 "hr" 3600 "hrs" 3600 "hour" 3600 "hours" 3600 }}
{{- $text := nospace . }}
{{- if regexMatch "^([0-9]+(ms|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?))+$" $text }}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9]+[a-z]+" $text -1 }}
{{- $seconds = addf $seconds (mulf (regexFind "[0-9]+" . | float64) (get $units (regexFind "[a-z]+" .))) }}
{{- end }}
{{- $seconds }}
{{- end }}
{{- end -}}

{{/* A connection id names one process; a rolling Deployment has two at a time, and the new one would wait for the old for ever. */}}
{{- define "atdata-bridge.check.identity" -}}
{{- if or (include "atdata-bridge.hasReplicas" .root) (eq .root.Values.kind "Deployment") }}
{{- $same := "would be the same for all pods, and AtData's broker admits each once" }}
{{- if or (dig "source" "connection_id" "" .read.config) (hasKey .variables "BRIDGE__SOURCE__CONNECTION_ID") }}
config.source.connection_id {{ $same }}: leave it out (its default holds the name of the pod), or set it in extraEnv as BRIDGE__SOURCE__CONNECTION_ID with $(HOSTNAME) in it
{{- end }}
{{- $differ := list "HOSTNAME" }}
{{- range .environment }}
{{- $ofPod := has (dig "fieldRef" "fieldPath" "" (default dict .valueFrom)) (list "metadata.name" "metadata.uid") }}
{{- if eq .name "BRIDGE__SOURCE__CONNECTION_ID" }}
{{- $differs := $ofPod }}
{{- $value := default "" .value | replace "$$" "" }}
{{- range $differ }}{{ if contains (printf "$(%s)" .) $value }}{{ $differs = true }}{{ end }}{{ end }}
{{- if not $differs }}
extraEnv: BRIDGE__SOURCE__CONNECTION_ID {{ $same }}: write $(HOSTNAME), the name of the pod, into it
{{- end }}
{{- else if $ofPod }}
{{- $differ = append $differ .name }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "atdata-bridge.check.environment" -}}
{{- $seen := dict }}
{{- range concat (list "BRIDGE_CONFIG" "BRIDGE_DATA_DIRECTORY" "HOSTNAME") (keys .variables | sortAlpha) }}{{ $_ := set $seen . "by the chart" }}{{ end }}
{{- range .environment }}
{{- if hasKey $seen .name }}
env, extraEnv: {{ .name }} is set {{ get $seen .name }} already
{{- end }}
{{- $_ := set $seen .name "by env, extraEnv or connectionIdPrefix" }}
{{- end }}
{{- range .environment }}
{{- $name := splitList "__" .name | last | lower }}
{{- if and .value (hasPrefix "BRIDGE__" .name) }}
{{- $option := trimPrefix "BRIDGE__" .name | lower | replace "__" "." }}
{{- if include "atdata-bridge.isSecret" $name }}
env, extraEnv: {{ .name }}: everybody who may see the pod would read it: write valueFrom.secretKeyRef instead of value, or set config.{{ $option }}_file.existingSecret
{{- else if include "atdata-bridge.hasCredentials" (dict "name" $name "value" .value) }}
env, extraEnv: {{ .name }}: everybody who may see the pod would read the credentials in it: take them out; config.{{ $option | splitList "." | initial | join "." }}.password_file is the place for them, or write valueFrom.secretKeyRef instead of value
{{- end }}
{{- end }}
{{- end }}
{{- if .root.Values.existingConfigMap }}
{{- $_ := unset $seen "BRIDGE__ADMIN__LISTEN" }}
{{- with omit .root.Values.config "admin" }}
existingConfigMap: config.{{ keys . | sortAlpha | first }} would not be read: write it into the ConfigMap, and only admin.listen into config
{{- end }}
{{- with omit (default dict .root.Values.config.admin) "listen" }}
existingConfigMap: config.admin.{{ keys . | sortAlpha | first }} would not be read: write it into the ConfigMap, and the variables BRIDGE__ADMIN__TLS__CERTIFICATE_FILE and BRIDGE__ADMIN__TLS__KEY_FILE into env, where the chart sees them
{{- end }}
{{- end }}
{{- range $variable, $option := dict "BRIDGE__ADMIN__LISTEN" "config.admin.listen, whose port the probes need" "BRIDGE__SHUTDOWN__DRAIN_TIMEOUT" "config.shutdown.drain_timeout, which terminationGracePeriodSeconds must exceed" }}
{{- if hasKey $seen $variable }}
env, extraEnv: {{ $variable }} would change what the chart has to know: set {{ $option }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^(\\[[0-9A-Fa-f:.]+\\]|[0-9.]+):[1-9][0-9]*$" (dig "admin" "listen" "" .config | toString)) }}
config.admin.listen must be an address and a port, such as 0.0.0.0:9464 or [::]:9464: the probes and metrics need it
{{- else if regexMatch "^(127\\.|\\[::1\\])" (dig "admin" "listen" "" .config) }}
config.admin.listen: {{ .config.admin.listen }} can't be reached by the probes: write 0.0.0.0 or [::] for all addresses of the pod
{{- end }}
{{- $tls := dig "admin" "tls" dict .config }}
{{- range $option, $other := dict "certificate_file" "key_file" "key_file" "certificate_file" "client_ca_file" "certificate_file" }}
{{- if and (hasKey $tls $option) (not (get $tls $other)) }}
config.admin.tls.{{ $other }} is missing: {{ $option }} needs it
{{- end }}
{{- end }}
{{- if $tls.client_ca_file }}
{{- range list "podMonitor" "serviceMonitor" }}
{{- $monitor := get $.root.Values.metrics . }}
{{- if and $monitor.enabled (not (default dict $monitor.endpoint).tlsConfig) }}
metrics.{{ . }}.endpoint.tlsConfig is missing: config.admin.tls.client_ca_file shows the metrics only to those with a certificate
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "atdata-bridge.check.volumes" -}}
{{- $seen := dict "config" true "secrets" true "data" true }}
{{- range default list .root.Values.extraVolumes }}
{{- if hasKey $seen .name }}
extraVolumes: the name {{ .name }} is taken
{{- end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end -}}

{{/* Helm expands `{{ .password }}` to nothing, where somebody else was to expand it. */}}
{{- define "atdata-bridge.check.templates" -}}
{{- $values := .root.Values }}
{{- range $name := list "extraEnv" "extraEnvFrom" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "hostAliases" "dnsConfig" "extraVolumes" "extraVolumeMounts" "initContainers" "extraContainers" }}
{{- range regexFindAll "(^|[^\"`]){{-? *\\.[A-Za-z]+" (get $values $name | toYaml) -1 }}
{{- $field := regexFind "[A-Za-z]+$" . }}
{{- if not (has $field (list "Release" "Values" "Chart" "Capabilities" "Template" "Files" "Subcharts")) }}
{{ $name }}: Helm would write nothing for {{ printf "{{ .%s }}" $field }}, which it does not know: if another program expands it, write {{ printf "{{ \"{{ .%s }}\" }}" $field }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "atdata-bridge.check.others" -}}
{{- $values := .root.Values }}
{{- if and $values.metrics.podMonitor.enabled $values.metrics.serviceMonitor.enabled }}
metrics: podMonitor and serviceMonitor would both scrape the same pods: enable one
{{- end }}
{{- $budget := $values.podDisruptionBudget }}
{{- if not (or (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable)) }}
podDisruptionBudget: Kubernetes takes minAvailable or maxUnavailable, not both: set maxUnavailable to null
{{- end }}
{{- if and $values.networkPolicy.enabled (not $values.networkPolicy.egressPorts) }}
{{- with regexFindAll "\\? [^\n]+" (include "atdata-bridge.ports" .read) -1 }}
networkPolicy: the values don't tell which ports the bridge connects to ({{ join ", " . | replace "? " "" }}): list the ports in networkPolicy.egressPorts
{{- end }}
{{- end }}
{{- end -}}
