{{/* Names, at most 52 characters: what is made of them stays below 63. */}}
{{- define "bms.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "bms.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "bms.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "bms.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bms.selector" -}}
app.kubernetes.io/name: {{ include "bms.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "bms.labels" -}}
{{ include "bms.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "bms.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "bms.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image by its digest, or by its tag. */}}
{{- define "bms.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .default .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "bms.databaseSecret" -}}
{{- default (printf "%s-database" (include "bms.fullname" .)) .Values.database.existingSecret -}}
{{- end -}}

{{- define "bms.storeSecret" -}}
{{- default (printf "%s-store" (include "bms.fullname" .)) .Values.store.existingSecret -}}
{{- end -}}

{{/* Who may ask: a Secret of keys, each called NAME.ROLE, or one of the proxy's tokens. */}}
{{- define "bms.authSecret" -}}
{{- $kind := ternary "keys" "auth" (eq .Values.auth.mode "keys") -}}
{{- default (printf "%s-%s" (include "bms.fullname" .) $kind) .Values.auth.existingSecret -}}
{{- end -}}

{{/* Which of them may everything, and which is Prometheus'. */}}
{{- define "bms.adminKey" -}}
{{- ternary .Values.auth.keys.admin "token" (eq .Values.auth.mode "keys") -}}
{{- end -}}

{{- define "bms.metricsKey" -}}
{{- ternary .Values.auth.keys.metrics "metrics-token" (eq .Values.auth.mode "keys") -}}
{{- end -}}

{{/* The port at which the pod answers: the server's, or the proxy's before it. */}}
{{- define "bms.port" -}}
{{- ternary "8080" "8081" (eq .Values.auth.mode "keys") -}}
{{- end -}}

{{/* How clients ask. */}}
{{- define "bms.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.secretName)) -}}
{{- end -}}

{{/* HOST:PORT by which workers reach the centre. */}}
{{- define "bms.nodesAddress" -}}
{{- default (printf "%s-nodes.%s.svc:%v" (include "bms.fullname" .) .Release.Namespace (int64 .Values.nodes.service.port)) .Values.nodes.address -}}
{{- end -}}

{{/* What the server's own limits allow for open requests, and what the chart adds around it. */}}
{{- define "bms.graceSeconds" -}}
{{- add .Values.drain.announceSeconds 20 .Values.drain.spareSeconds -}}
{{- end -}}

{{- define "bms.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}
