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
{{- $_ := set $found "config" $config -}}
{{- $_ := set $found "environment" (include "atdata-bridge.environment" . | fromJsonArray) -}}
{{- $_ := set $found "unknown" (or .Values.extraEnvFrom .Values.existingConfigMap | empty | not) -}}
{{- $_ := set $found "effective" (include "atdata-bridge.effective" (merge (dict "root" .) $found) | fromJson) -}}
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
{{- $keys := dict "ca_file" "ca.crt" "client_ca_file" "ca.crt" "certificate_file" "tls.crt" "key_file" "tls.key" }}
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

{{/* Where the volume is mounted. */}}
{{- define "atdata-bridge.data" -}}/var/lib/atdata-bridge{{- end -}}
{{/* Where the configuration file is mounted. */}}
{{- define "atdata-bridge.etc" -}}/etc/atdata-bridge{{- end -}}
{{/* Where credentials and certificates are mounted. */}}
{{- define "atdata-bridge.secrets" -}}/run/secrets/atdata-bridge{{- end -}}

{{/* The port that `admin.listen` names. */}}
{{- define "atdata-bridge.port" -}}
{{- regexFind "[0-9]+$" (toString (default dict (default dict .Values.config).admin).listen) -}}
{{- end -}}

{{/* How the pages are asked for: `http` or `https`. */}}
{{- define "atdata-bridge.scheme" -}}
{{- $read := include "atdata-bridge.read" . | fromJson -}}
{{- empty (default dict (default dict $read.effective.admin).tls).certificate_file | ternary "http" "https" -}}
{{- end -}}

{{/* The kind of the sink `name` in the table `parent`; a sink of dead letters is like the sink of its name. */}}
{{- define "atdata-bridge.kindOf" -}}
{{- $like := eq .parent "dead_letters" | ternary (get (default dict .config.sinks) .name) nil }}
{{- default (default .name (kindIs "map" $like | ternary $like dict).kind) (get (get .config .parent) .name).kind }}
{{- end -}}

{{/* Who writes files: the option, such as `config.sinks.file`, → its directory, as JSON. */}}
{{- define "atdata-bridge.directories" -}}
{{- $directories := dict }}
{{- range $parent := list "sinks" "dead_letters" }}
{{- range $name, $sink := omit (default dict (get $ $parent)) "rotate" }}
{{- if kindIs "map" $sink }}
{{- if eq "file" (include "atdata-bridge.kindOf" (dict "config" $ "parent" $parent "name" $name)) }}
{{- $_ := set $directories (printf "config.%s.%s" $parent $name) (default "" $sink.directory) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with (default dict .dead_letters).directory }}{{ $_ := set $directories "config.dead_letters" . }}{{ end }}
{{- toJson $directories }}
{{- end -}}
