{{- define "kubeopencode.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 50 characters: the longest suffix has 8, and Pods of a Deployment add 17. */ -}}
{{- define "kubeopencode.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "kubeopencode.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "kubeopencode.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kubeopencode.selector" -}}
app.kubernetes.io/name: {{ include "kubeopencode.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kubeopencode.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{ include "kubeopencode.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "kubeopencode.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "kubeopencode.fullname" .) "default") -}}
{{- end -}}

{{- /* kubeopencode.image (list CONTEXT NAME REFERENCE): the reference if there is one, else made of registry, name and tag. */ -}}
{{- define "kubeopencode.image" -}}
{{- $root := index . 0 -}}
{{- index . 2 | default (printf "%s/%s:%s" $root.Values.images.registry (index . 1) ($root.Values.images.tag | default $root.Chart.AppVersion)) -}}
{{- end -}}

{{- /* The namespace that is served; empty means all. */ -}}
{{- define "kubeopencode.served" -}}
{{- if eq .Values.scope "Namespace" -}}
{{- .Values.watchNamespace | default .Release.Namespace -}}
{{- else if .Values.watchNamespace -}}
{{- fail "watchNamespace is for scope=Namespace: set that too, or leave watchNamespace out" -}}
{{- end -}}
{{- end -}}
