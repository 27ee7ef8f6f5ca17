{{/* The pod's template, the same for both kinds of owner. */}}
{{- define "bms.podTemplate" -}}
metadata:
  labels:
    {{- include "bms.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: server
    {{- if eq .Values.auth.mode "proxy" }}
    checksum/proxy: {{ include "bms.caddyfile" . | sha256sum }}
    {{- end }}
    {{- with .Values.engines.config }}
    checksum/engines: {{ sha256sum . }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "bms.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "bms.graceSeconds" . }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ .Values.runAsUser }}
    runAsGroup: {{ .Values.runAsUser }}
    fsGroup: {{ .Values.runAsUser }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- if eq .Values.auth.mode "proxy" }}
  initContainers:
    {{- include "bms.proxyContainer" . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "bms.serverContainer" . | nindent 4 }}
  volumes:
    {{- include "bms.volumes" . | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- with .Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "bms.selector" . | nindent 10 }}
    {{- end }}
{{- end -}}

{{- define "bms.serverContainer" -}}
- name: server
  image: {{ include "bms.image" (dict "image" .Values.image "default" .Chart.AppVersion) | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    {{- include "bms.arguments" . | nindent 4 }}
  env:
    - name: BMS_HOME
      value: {{ ternary "/etc/bms/home" "/data/home" (not (empty .Values.home.existingSecret)) }}
    - name: BMS_LOG
      value: {{ .Values.server.log | quote }}
    {{- if eq .Values.mode "shared" }}
    - name: BMS_DATABASE
      valueFrom:
        secretKeyRef:
          name: {{ include "bms.databaseSecret" . }}
          key: {{ .Values.database.existingSecretKey }}
    {{- with .Values.store.endpoint }}
    - name: AWS_ENDPOINT_URL
      value: {{ . | quote }}
    {{- end }}
    - name: AWS_REGION
      value: {{ .Values.store.region | quote }}
    {{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
    - name: {{ . }}
      valueFrom:
        secretKeyRef:
          name: {{ include "bms.storeSecret" $ }}
          key: {{ . }}
    {{- end }}
    {{- end }}
    {{- with .Values.server.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or (eq .Values.auth.mode "keys") .Values.nodes.enabled }}
  ports:
    {{- if eq .Values.auth.mode "keys" }}
    - { name: http, containerPort: 8080 }
    {{- end }}
    {{- if .Values.nodes.enabled }}
    - { name: nodes, containerPort: 8443 }
    {{- end }}
  {{- end }}
  # Whether the server is well may be asked without a key. Where there is a proxy, it passes the question on.
  startupProbe:
    httpGet: { path: /v2/health/live, port: {{ include "bms.port" . }}, scheme: {{ include "bms.scheme" . | upper }} }
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: {{ max 1 (div .Values.probes.startupSeconds 5) }}
  livenessProbe:
    httpGet: { path: /v2/health/live, port: {{ include "bms.port" . }}, scheme: {{ include "bms.scheme" . | upper }} }
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: {{ max 1 (div .Values.probes.livenessSeconds 10) }}
  readinessProbe:
    httpGet: { path: /v2/health/ready, port: {{ include "bms.port" . }}, scheme: {{ include "bms.scheme" . | upper }} }
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 2
  lifecycle:
    preStop:
      sleep:
        seconds: {{ .Values.drain.announceSeconds }}
  securityContext:
    {{- include "bms.securityContext" . | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - { name: data, mountPath: /data }
    - { name: tmp, mountPath: /tmp }
    {{- if .Values.home.existingSecret }}
    - { name: home, mountPath: /etc/bms/home, readOnly: true }
    {{- end }}
    {{- if eq .Values.auth.mode "keys" }}
    - { name: keys, mountPath: /etc/bms/keys, readOnly: true }
    {{- end }}
    {{- if .Values.tls.secretName }}
    - { name: tls, mountPath: /etc/bms/tls, readOnly: true }
    {{- end }}
    {{- if .Values.engines.config }}
    - { name: engines, mountPath: /etc/bms/engines, readOnly: true }
    {{- end }}
    {{- if .Values.engines.existingSecret }}
    - { name: engine-secrets, mountPath: /etc/bms/engine-secrets, readOnly: true }
    {{- end }}
{{- end -}}

{{/* What `bms up` is told. */}}
{{- define "bms.arguments" -}}
- up
- --json
{{- if eq .Values.auth.mode "keys" }}
- {{ printf "--listen=%s:8080" .Values.server.address | quote }}
- --keys=required
{{- if .Values.tls.secretName }}
- --tls-cert=/etc/bms/tls/tls.crt
- --tls-key=/etc/bms/tls/tls.key
{{- else }}
- --plain-http
{{- end }}
- --keys-from=/etc/bms/keys
{{- if .Values.auth.keys.metricsOpen }}
- --metrics-open
{{- end }}
{{- else }}
- --listen=127.0.0.1:8080
# The proxy has asked already, and passes no credentials on.
- --keys=off
{{- end }}
- --data=/data/server
{{- if eq .Values.mode "shared" }}
- {{ printf "--store=%s" .Values.store.url | quote }}
{{- end }}
- {{ printf "--scrub-every=%s" .Values.store.scrubEvery | quote }}
- {{ printf "--scrub-rate=%v" (int64 .Values.store.scrubRate) | quote }}
{{- with .Values.server.threads }}
- {{ printf "--threads=%v" (int64 .) | quote }}
{{- end }}
{{- with .Values.server.memory }}
- {{ printf "--memory=%s" . | quote }}
{{- end }}
{{- with .Values.server.kvMemoryMiB }}
- {{ printf "--kv-memory=%v" (int64 .) | quote }}
{{- end }}
{{- with .Values.server.sequences }}
- {{ printf "--sequences=%v" (int64 .) | quote }}
{{- end }}
{{- with .Values.server.cache }}
{{- if .memory }}
- {{ printf "--cache-memory=%s" .memory | quote }}
- {{ printf "--cache-seconds=%v" (int64 .seconds) | quote }}
{{- range .models }}
- {{ printf "--cache-model=%s" . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.engines.config }}
- --engines=/etc/bms/engines/engines.toml
{{- end }}
{{- if .Values.nodes.enabled }}
- {{ printf "--nodes-listen=%s:8443" .Values.server.address | quote }}
- {{ printf "--nodes-address=%s" (include "bms.nodesAddress" .) | quote }}
{{- end }}
{{- range .Values.server.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* A sidecar, that is an initContainer that goes on: it is there before the server and ends after it, so that what is open drains. */}}
{{- define "bms.proxyContainer" -}}
- name: proxy
  image: {{ include "bms.image" (dict "image" .Values.auth.proxy.image "default" "") | quote }}
  imagePullPolicy: IfNotPresent
  restartPolicy: Always
  command: [caddy, run, --config, /etc/caddy/Caddyfile, --adapter, caddyfile]
  env:
    {{- range $name, $key := dict "BMS_TOKEN" "token" "BMS_METRICS_TOKEN" "metrics-token" }}
    - name: {{ $name }}
      valueFrom:
        secretKeyRef:
          name: {{ include "bms.authSecret" $ }}
          key: {{ $key }}
    {{- end }}
    - { name: XDG_CONFIG_HOME, value: /tmp }
    - { name: XDG_DATA_HOME, value: /tmp }
  ports:
    - { name: http, containerPort: 8081 }
    - { name: proxy-health, containerPort: 8082 }
  startupProbe:
    httpGet: { path: /, port: 8082 }
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet: { path: /, port: 8082 }
    periodSeconds: 10
    timeoutSeconds: 5
  securityContext:
    {{- include "bms.securityContext" . | nindent 4 }}
      # The official image's program carries this capability and does not start where it may not have it.
      add: [NET_BIND_SERVICE]
  resources:
    {{- toYaml .Values.auth.proxy.resources | nindent 4 }}
  volumeMounts:
    - { name: proxy, mountPath: /etc/caddy, readOnly: true }
    - { name: proxy-tmp, mountPath: /tmp }
{{- end -}}

{{- define "bms.volumes" -}}
{{- if eq .Values.mode "shared" }}
- name: data
  emptyDir:
    sizeLimit: {{ .Values.persistence.loadedSizeLimit }}
{{- end }}
# Sockets of slots and a copy of the policy.
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if eq .Values.auth.mode "keys" }}
- name: keys
  secret:
    secretName: {{ include "bms.authSecret" . | quote }}
    defaultMode: 0440
{{- else }}
- name: proxy
  configMap:
    name: {{ include "bms.fullname" . }}-proxy
- name: proxy-tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end }}
{{- with .Values.tls.secretName }}
- name: tls
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ . | quote }}
          items:
            - { key: tls.crt, path: tls.crt }
            - { key: tls.key, path: tls.key }
      {{- with $.Values.tls.authorityKey }}
      # For the program's own commands in the pod. Not every issuer writes it.
      - secret:
          name: {{ $.Values.tls.secretName | quote }}
          optional: true
          items:
            - { key: {{ . | quote }}, path: ca.crt }
      {{- end }}
{{- end }}
{{- with .Values.home.existingSecret }}
- name: home
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ . | quote }}
      {{- with $.Values.nodes.authoritySecret }}
      - secret:
          name: {{ . | quote }}
          items:
            - { key: authority.json, path: nodes-ca/authority.json }
      {{- end }}
{{- end }}
{{- if .Values.engines.config }}
- name: engines
  configMap:
    name: {{ include "bms.fullname" . }}-engines
{{- end }}
{{- with .Values.engines.existingSecret }}
- name: engine-secrets
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- end -}}
