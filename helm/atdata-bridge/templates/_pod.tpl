{{/* The pod, the same in a StatefulSet and in a Deployment. */}}
{{- define "atdata-bridge.pod" -}}
{{- $read := include "atdata-bridge.read" . | fromJson -}}
metadata:
  labels:
    {{- include "atdata-bridge.podLabels" . | nindent 4 }}
  {{- with include "atdata-bridge.texts" (list (include "atdata-bridge.checksums" . | fromYaml) .Values.podAnnotations .Values.commonAnnotations (include "atdata-bridge.scrapeAnnotations" . | fromYaml)) }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  {{- include "atdata-bridge.podBasics" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
  {{- with include "atdata-bridge.spread" . | fromYamlArray }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- include "atdata-bridge.rendered" (dict "root" $ "value" .) | nindent 4 }}
  {{- end }}
  containers:
    - name: bridge
      {{- include "atdata-bridge.container" (dict "root" . "read" $read "args" (list "run")) | nindent 6 }}
      ports:
        - name: admin
          containerPort: {{ include "atdata-bridge.port" . }}
          protocol: TCP
      {{- range $name := list "livenessProbe" "readinessProbe" "startupProbe" "lifecycle" }}
      {{- with get $.Values $name }}
      {{ $name }}:
        {{- include "atdata-bridge.probe" (dict "root" $ "probe" .) | nindent 8 }}
      {{- end }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- include "atdata-bridge.rendered" (dict "root" $ "value" .) | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "atdata-bridge.volumes" (dict "root" . "read" $read) | nindent 4 }}
    {{- if and (include "atdata-bridge.mountsData" .) .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim }}
    {{- end }}
{{- end -}}

{{/* A probe or a hook asks the pages by TLS if they speak it; a kubelet verifies no certificate. */}}
{{- define "atdata-bridge.probe" -}}
{{- $probe := mustDeepCopy .probe }}
{{- range list $probe (default dict $probe.postStart) (default dict $probe.preStop) }}
{{- $get := default dict .httpGet }}
{{- $isAdmin := has (toString $get.port) (list "admin" (include "atdata-bridge.port" $.root)) }}
{{- if and $isAdmin (not $get.scheme) (eq (include "atdata-bridge.scheme" $.root) "https") }}
{{- $_ := set $get "scheme" "HTTPS" }}
{{- end }}
{{- end }}
{{- include "atdata-bridge.withoutNulls" $probe }}
{{- end -}}

{{/* What the test's pod has too: who runs it, where it is put, what it may not do. */}}
{{- define "atdata-bridge.podBasics" -}}
serviceAccountName: {{ include "atdata-bridge.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
enableServiceLinks: false
{{- if kindIs "bool" .Values.hostUsers }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- include "atdata-bridge.imagePullSecrets" . }}
securityContext:
  {{- include "atdata-bridge.podSecurityContext" . | nindent 2 }}
{{- range $name := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
{{- with get $.Values $name }}
{{ $name }}: {{ . }}
{{- end }}
{{- end }}
{{- with include "atdata-bridge.withoutNulls" .Values.nodeSelector | fromYaml }}
nodeSelector:
  {{- include "atdata-bridge.rendered" (dict "root" $ "value" .) | nindent 2 }}
{{- end }}
{{- range $name := list "tolerations" "affinity" "hostAliases" "dnsConfig" }}
{{- with get $.Values $name }}
{{ $name }}:
  {{- include "atdata-bridge.rendered" (dict "root" $ "value" .) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where pods go, seen from each other: those of this release, unless a constraint says which. */}}
{{- define "atdata-bridge.spread" -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "atdata-bridge.selectorLabels" . | fromYaml)) -}}
{{- $constraints := list -}}
{{- range include "atdata-bridge.rendered" (dict "root" . "value" .Values.topologySpreadConstraints) | fromYamlArray }}
{{- if not (hasKey . "labelSelector") }}{{ $_ := merge . $own }}{{ end }}
{{- $constraints = append $constraints . }}
{{- end }}
{{- toYaml $constraints }}
{{- end -}}

{{/* Image, arguments, environment and mounts: the same for the bridge and for the test that checks what it finds. */}}
{{- define "atdata-bridge.container" -}}
{{- $values := .root.Values -}}
image: {{ include "atdata-bridge.image" .root }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: {{ toJson .args }}
# `kubectl describe pod` then shows why the process has ended.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "atdata-bridge.withoutNulls" $values.securityContext | nindent 2 }}
env:
  - name: BRIDGE_CONFIG
    value: {{ include "atdata-bridge.etc" nil }}/bridge.toml
  {{- if or .scratch (include "atdata-bridge.hasVolume" .root) }}
  # Where files go that no option sends elsewhere.
  - name: BRIDGE_DATA_DIRECTORY
    value: {{ include "atdata-bridge.data" nil }}
  {{- end }}
  # The end of the connection id: unique, and in a StatefulSet the same after every restart.
  - name: HOSTNAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  {{- range $variable, $reference := .read.variables }}
  - name: {{ $variable }}
    valueFrom:
      secretKeyRef:
        name: {{ $reference.existingSecret }}
        key: {{ $reference.key }}
  {{- end }}
  {{- /* Over the file, so that a changed file moves no queue. */}}
  {{- $queue := include "atdata-bridge.queue" .read | fromJson }}
  {{- range $name, $value := $queue }}
  - name: BRIDGE__SOURCE__{{ upper $name }}
    valueFrom:
      configMapKeyRef:
        name: {{ include "atdata-bridge.queueName" $.root }}
        key: {{ $name }}
  {{- end }}
  {{- range .read.environment }}
  {{- if not (hasKey $queue (trimPrefix "BRIDGE__SOURCE__" .name | lower)) }}
  - {{ toYaml . | nindent 4 | trim }}
  {{- end }}
  {{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- include "atdata-bridge.rendered" (dict "root" $.root "value" .) | nindent 2 }}
{{- end }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: {{ include "atdata-bridge.etc" nil }}
    readOnly: true
  {{- if .read.files }}
  - name: secrets
    mountPath: {{ include "atdata-bridge.secrets" nil }}
    readOnly: true
  {{- end }}
  {{- if or .scratch (include "atdata-bridge.mountsData" .root) }}
  - name: data
    mountPath: {{ include "atdata-bridge.data" nil }}
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- include "atdata-bridge.rendered" (dict "root" $.root "value" .) | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Directories, never single files: only so a changed ConfigMap or Secret reaches a running pod. */}}
{{- define "atdata-bridge.volumes" -}}
- name: config
  configMap:
    name: {{ .root.Values.existingConfigMap | default (include "atdata-bridge.fullname" .root) }}
{{- with .read.files }}
- name: secrets
  projected:
    {{- if or $.root.Values.openshift (default dict $.root.Values.podSecurityContext).fsGroup }}
    # 0440: the bridge reads them by its group.
    defaultMode: 288
    {{- end }}
    sources:
      {{- range $option, $reference := . }}
      {{- if $reference.existingConfigMap }}
      - configMap:
          name: {{ $reference.existingConfigMap }}
      {{- else }}
      - secret:
          name: {{ default (include "atdata-bridge.fullname" $.root) $reference.existingSecret }}
      {{- end }}
          items:
            - key: {{ $reference.value | empty | ternary $reference.key $option }}
              path: {{ $option }}
      {{- end }}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ include "atdata-bridge.rendered" (dict "root" $.root "value" .) }}
{{- end }}
{{- end -}}

{{/* For a Prometheus that finds pods by these, which are no part of Kubernetes but a custom. */}}
{{- define "atdata-bridge.scrapeAnnotations" -}}
{{- if .Values.metrics.scrapeAnnotations }}
prometheus.io/scrape: "true"
prometheus.io/path: /metrics
prometheus.io/port: {{ include "atdata-bridge.port" . | quote }}
{{- if eq (include "atdata-bridge.scheme" .) "https" }}
prometheus.io/scheme: https
{{- end }}
{{- end }}
{{- end -}}

{{/* So that pods restart when what they read at the start has changed; Secrets of others can't be seen from here. */}}
{{- define "atdata-bridge.checksums" -}}
{{- if .Values.rollOnConfigChange -}}
checksum/config: {{ include "atdata-bridge.file" . | sha256sum }}
checksum/queue: {{ include "atdata-bridge.queue" (include "atdata-bridge.read" . | fromJson) | sha256sum }}
checksum/secret: {{ include "atdata-bridge.inline" . | sha256sum }}
{{- end }}
{{- if .Values.rollOnExtraObjectsChange }}
checksum/extra-objects: {{ include "atdata-bridge.extraObjects" . | sha256sum }}
{{- end }}
{{- end -}}

{{/* The configuration file. */}}
{{- define "atdata-bridge.file" -}}
{{- $read := include "atdata-bridge.read" . | fromJson -}}
# Rendered from `config:` in the values. `atdata-bridge config` in a pod tells what is in effect.
{{ include "atdata-bridge.toml" (dict "table" $read.config "path" list) | trim }}
{{- end -}}

{{/* The secrets that stand in the values themselves; empty if there are none. */}}
{{- define "atdata-bridge.inline" -}}
{{- $secrets := dict -}}
{{- range $option, $reference := (include "atdata-bridge.read" . | fromJson).files }}
{{- if $reference.value }}{{ $_ := set $secrets $option (include "atdata-bridge.text" $reference.value) }}{{ end }}
{{- end }}
{{- if $secrets }}{{ toYaml $secrets }}{{ end }}
{{- end -}}

{{/* A value in which the user may write templates. */}}
{{- define "atdata-bridge.rendered" -}}
{{- with .value }}{{ tpl (kindIs "string" . | ternary . (toYaml .)) $.root }}{{ end -}}
{{- end -}}
