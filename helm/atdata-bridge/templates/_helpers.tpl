{{/* The name of the chart, unless overridden. */}}
{{- define "atdata-bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/*
The name of every object: at most 52 characters, so that a StatefulSet's revision label still fits into 63. In a chart above
this one, several of these may stand side by side under aliases, and each needs a name of its own.
*/}}
{{- define "atdata-bridge.fullname" -}}
{{- $name := include "atdata-bridge.name" . -}}
{{- $alone := .Chart.IsRoot | ternary (contains $name .Release.Name) (eq $name .Release.Name) -}}
{{- $full := .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) $alone) -}}
{{- if gt (len $full) 52 -}}
{{- $full = printf "%s-%s" (trunc 43 $full | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{- define "atdata-bridge.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* What pods are found by. It can't be changed once installed, so nothing that changes belongs here. */}}
{{- define "atdata-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "atdata-bridge.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* A value as a text; every number of a values file is a float, and 10000000 no text that begins with `1e`. */}}
{{- define "atdata-bridge.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- end -}}

{{/* Maps of labels or annotations as one: the first that has a name decides, and every value is a text. */}}
{{- define "atdata-bridge.texts" -}}
{{- $texts := dict -}}
{{- range . }}
{{- range $name, $value := default dict . }}
{{- if and (not (hasKey $texts $name)) (not (kindIs "invalid" $value)) }}
{{- $_ := set $texts $name (include "atdata-bridge.text" $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $texts }}
{{- toYaml $texts }}
{{- end }}
{{- end -}}

{{/* The labels of every object but the pods, whose labels would restart them with every release of the chart. */}}
{{- define "atdata-bridge.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- include "atdata-bridge.texts" (list (include "atdata-bridge.selectorLabels" . | fromYaml) $own .Values.commonLabels) -}}
{{- end -}}

{{- define "atdata-bridge.podLabels" -}}
{{- include "atdata-bridge.texts" (list (include "atdata-bridge.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels) -}}
{{- end -}}

{{/* The metadata that all objects have: `root`, and `name`, `labels`, `annotations` where they differ. */}}
{{- define "atdata-bridge.metadata" -}}
{{- $annotations := include "atdata-bridge.texts" (list .annotations .root.Values.commonAnnotations) -}}
name: {{ default (include "atdata-bridge.fullname" .root) .name }}
namespace: {{ default (include "atdata-bridge.namespace" .root) .namespace | quote }}
labels:
  {{- include "atdata-bridge.texts" (list (include "atdata-bridge.labels" .root | fromYaml) .labels) | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "atdata-bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atdata-bridge.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A digest says exactly which image, so it wins over the tag. */}}
{{- define "atdata-bridge.image" -}}
{{- $registry := default .Values.image.registry (default dict .Values.global).imageRegistry -}}
{{- $name := empty $registry | ternary .Values.image.repository (printf "%s/%s" $registry .Values.image.repository) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{/* Pull secrets, by name or as `name: …`. */}}
{{- define "atdata-bridge.imagePullSecrets" -}}
{{- $names := list -}}
{{- range concat (default list (default dict .Values.global).imagePullSecrets) (default list .Values.imagePullSecrets) }}
{{- $names = append $names (kindIs "map" . | ternary . (dict "name" .)) }}
{{- end }}
{{- with uniq $names }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A map without what is null, by which a user takes a default away. */}}
{{- define "atdata-bridge.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $kept $name $value }}
{{- end }}
{{- end }}
{{- toYaml $kept }}
{{- end -}}

{{/* OpenShift gives every namespace ids of its own and refuses others. */}}
{{- define "atdata-bridge.podSecurityContext" -}}
{{- $context := default dict .Values.podSecurityContext -}}
{{- if .Values.openshift }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- include "atdata-bridge.withoutNulls" $context }}
{{- end -}}

{{/* How many pods the chart asks for; nothing where somebody else decides. */}}
{{- define "atdata-bridge.replicas" -}}
{{- if not (or .Values.autoscaling.enabled (kindIs "invalid" .Values.replicaCount)) }}{{ int64 .Values.replicaCount }}{{ end -}}
{{- end -}}

{{/* Whether more than one pod may run. */}}
{{- define "atdata-bridge.hasReplicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.maxReplicas) 1 }}true{{ end -}}
{{- else if gt (include "atdata-bridge.replicas" . | default "2" | int) 1 -}}
true
{{- end -}}
{{- end -}}
