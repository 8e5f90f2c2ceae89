{{/*
The bridge's configuration out of `config:`, as JSON:
  config     the tree as the file will say it: references replaced, what only the chart can know filled in
  files      option → {existingSecret | existingConfigMap, key} or {value}: what is mounted as a file
  variables  variable → {existingSecret, key}: what comes from the environment
  environment  the variables that the values name (_environment.tpl)
  effective  what the bridge will have, of `config` and the variables
  unknown    whether options may come from where the chart can't see them
  problems   what can't be installed
Every template that needs a part of it reads it anew: a chart has no place to keep it.
*/}}
{{- define "atdata-bridge.read" -}}
{{- $config := mustDeepCopy (default dict .Values.config) -}}
{{- $found := dict "files" dict "variables" dict "problems" list -}}
{{- include "atdata-bridge.read.table" (dict "table" $config "path" list "found" $found) -}}
{{- include "atdata-bridge.read.directories" (dict "root" . "config" $config) -}}
{{- $_ := set $found "config" $config -}}
{{- $_ := set $found "environment" (include "atdata-bridge.environment" . | fromJsonArray) -}}
{{- $_ := set $found "effective" (include "atdata-bridge.effective" $found | fromJson) -}}
{{- $_ := set $found "unknown" (not (empty .Values.extraEnvFrom)) -}}
{{- toJson $found -}}
{{- end -}}

{{/* One table, and the tables in it. */}}
{{- define "atdata-bridge.read.table" -}}
{{- range $name, $value := .table }}
{{- $path := append $.path $name }}
{{- $option := join "." $path }}
{{- if kindIs "invalid" $value }}
{{- $_ := unset $.table $name }}
{{- else if and (kindIs "map" $value) (hasSuffix "_file" $name) }}
{{- $_ := set $.found.files $option (include "atdata-bridge.read.file" (dict "option" $option "name" $name "value" $value "found" $.found) | fromJson) }}
{{- $_ := set $.table $name (printf "%s/%s" (include "atdata-bridge.secrets" nil) $option) }}
{{- else if and (kindIs "map" $value) (hasKey $value "existingSecret") (not (include "atdata-bridge.isSecret" $name)) }}
{{- $variable := printf "BRIDGE__%s" (join "__" $path | replace "." "_" | upper) }}
{{- $_ := set $.found.variables $variable (dict "existingSecret" $value.existingSecret "key" (default $name $value.key)) }}
{{- $_ := unset $.table $name }}
{{- else if and (kindIs "map" $value) (not (hasKey $value "existingSecret")) }}
{{- include "atdata-bridge.read.table" (dict "table" $value "path" $path "found" $.found) }}
{{- else }}
{{- include "atdata-bridge.read.secrecy" (dict "option" $option "name" $name "value" $value "found" $.found) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A reference to what is mounted; keys are by default those of cert-manager and of `kubectl create secret tls`. */}}
{{- define "atdata-bridge.read.file" -}}
{{- $keys := dict "ca_file" "ca.crt" "certificate_file" "tls.crt" "key_file" "tls.key" }}
{{- $kinds := list }}
{{- range list "existingSecret" "existingConfigMap" "value" }}
{{- if get $.value . }}{{ $kinds = append $kinds . }}{{ end }}
{{- end }}
{{- if ne (len $kinds) 1 }}
{{- $message := printf "config.%s: name one of existingSecret, existingConfigMap and value (or write a path)" .option }}
{{- $_ := set .found "problems" (append .found.problems $message) }}
{{- end }}
{{- $usual := trimSuffix "_file" .name }}
{{- dict "key" (default (get $keys .name | default $usual) .value.key) | merge (pick .value "existingSecret" "existingConfigMap" "value") | toJson }}
{{- end -}}

{{/* Whether an option is a secret itself: such an option has a twin that ends in `_file`, or is one of librdkafka's. */}}
{{- define "atdata-bridge.isSecret" -}}
{{- if regexMatch "(^|[._-])(password|passphrase|secret|token|nkey|key[._]pem|oauthbearer[._]config)$" . }}true{{ end -}}
{{- end -}}

{{/* What must not be read in a ConfigMap. */}}
{{- define "atdata-bridge.read.secrecy" -}}
{{- if and .value (include "atdata-bridge.isSecret" .name) }}
{{- $message := printf "config.%s: a secret is mounted as a file, never read in a ConfigMap: set config.%s_file.existingSecret to the name of a Secret, or config.%s_file.value to have the chart make one" .option .option .option }}
{{- if contains ".properties." .option }}
{{- $message = printf "config.%s: a secret is mounted as a file, never read in a ConfigMap: set what ends in _file beside properties, such as sasl.password_file, sasl.client_secret_file, tls.key_file or tls.key_password_file, and its existingSecret" .option }}
{{- end }}
{{- $_ := set .found "problems" (append .found.problems $message) }}
{{- end }}
{{- range kindIs "slice" .value | ternary .value (list .value) }}
{{- if include "atdata-bridge.hasCredentials" (dict "name" $.name "value" .) }}
{{- $message := printf "config.%s: a ConfigMap is no place for credentials: take them out of the url; username and password_file stand beside it" $.option }}
{{- $_ := set $.found "problems" (append $.found.problems $message) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether a text has a user or a password in it, as urls may; where addresses stand, with or without a scheme. */}}
{{- define "atdata-bridge.hasCredentials" -}}
{{- $pattern := has .name (list "url" "urls" "brokers" "token_url") | ternary "@" "://.*@" }}
{{- if and (kindIs "string" .value) (regexMatch $pattern (toString .value)) }}true{{ end -}}
{{- end -}}

{{/* Files belong on the volume, wherever they were not sent elsewhere. */}}
{{- define "atdata-bridge.read.directories" -}}
{{- $data := include "atdata-bridge.data" nil }}
{{- $sinks := default dict .config.sinks }}
{{- range $name, $sink := $sinks }}
{{- if and (kindIs "map" $sink) (eq (default $name $sink.kind) "file") (not $sink.directory) }}
{{- $_ := set $sink "directory" (printf "%s/sinks/%s" $data $name) }}
{{- end }}
{{- end }}
{{- if not (kindIs "map" .config.dead_letters) }}
{{- $_ := set .config "dead_letters" dict }}
{{- end }}
{{- $letters := .config.dead_letters }}
{{- $directory := printf "%s/dead-letters" $data }}
{{- $elsewhere := include "atdata-bridge.deadLettersByVariable" .root }}
{{- range $name, $sink := omit $letters "rotate" }}
{{- if kindIs "map" $sink }}
{{- $elsewhere = $name }}
{{- $like := default dict (get $sinks $name) }}
{{- if and (eq (default (default $name $like.kind) $sink.kind) "file") (not $sink.directory) }}
{{- $_ := set $sink "directory" $directory }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (or $elsewhere $letters.directory) }}
{{- $_ := set $letters "directory" $directory }}
{{- end }}
{{- end -}}

{{/* Where the volume is mounted. */}}
{{- define "atdata-bridge.data" -}}/var/lib/atdata-bridge{{- end -}}
{{/* Where the configuration file is mounted. */}}
{{- define "atdata-bridge.etc" -}}/etc/atdata-bridge{{- end -}}
{{/* Where credentials and certificates are mounted. */}}
{{- define "atdata-bridge.secrets" -}}/run/secrets/atdata-bridge{{- end -}}

{{/* The names of extraEnv, one a line. */}}
{{- define "atdata-bridge.variables" -}}
{{- range default list .Values.extraEnv }}
{{ .name }}
{{- end }}
{{- end -}}

{{/* Whether a variable sends the dead letters to a sink. */}}
{{- define "atdata-bridge.deadLettersByVariable" -}}
{{- range default list .Values.extraEnv }}
{{- if and (regexMatch "^BRIDGE__DEAD_LETTERS__.+__" .name) (not (hasPrefix "BRIDGE__DEAD_LETTERS__ROTATE__" .name)) }}true{{ end }}
{{- end }}
{{- end -}}

{{/* The port that `admin.listen` names. */}}
{{- define "atdata-bridge.port" -}}
{{- regexFind "[0-9]+$" (toString (default dict (default dict .Values.config).admin).listen) -}}
{{- end -}}

{{/* What the files of the bridge that would be on the volume are for, one a line; empty if there are none. */}}
{{- define "atdata-bridge.files" -}}
{{- $sinks := default dict .sinks }}
{{- range $name, $sink := $sinks }}
{{- if and (kindIs "map" $sink) (eq (default $name $sink.kind) "file") }}
config.sinks.{{ $name }}
{{- end }}
{{- end }}
{{- if .dead_letters.directory }}
config.dead_letters
{{- end }}
{{- range $name, $sink := omit .dead_letters "rotate" }}
{{- if and (kindIs "map" $sink) (eq (default (default $name (default dict (get $sinks $name)).kind) $sink.kind) "file") }}
config.dead_letters.{{ $name }}
{{- end }}
{{- end }}
{{- end -}}
