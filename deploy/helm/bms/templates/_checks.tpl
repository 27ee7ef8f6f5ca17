{{/* Values that are right each for itself and wrong together, said in words. What a schema can tell stands in values.schema.json. */}}
{{- define "bms.check" -}}
{{- if and (eq .Values.auth.mode "proxy") .Values.auth.keys.metricsOpen -}}
{{- fail "auth.keys.metricsOpen has no effect with auth.mode proxy, whose metrics-token reads /metrics: leave it out, or take auth.mode keys" -}}
{{- end -}}
{{- if and (eq .Values.auth.mode "proxy") .Values.tls.secretName -}}
{{- fail "tls.secretName has no effect with auth.mode proxy, whose sidecar speaks plain HTTP: leave it out, or take auth.mode keys" -}}
{{- end -}}
{{- if and .Values.server.cache.models (not .Values.server.cache.memory) -}}
{{- fail "server.cache.models has no effect without server.cache.memory, as 256MiB" -}}
{{- end -}}
{{- if and .Values.engines.existingSecret (not .Values.engines.config) -}}
{{- fail "engines.existingSecret has no effect without engines.config, which names its files" -}}
{{- end -}}
{{- if .Values.nodes.enabled -}}
{{- if .Values.server.memory -}}
{{- fail "server.memory has no effect with nodes.enabled: each worker says how much memory it has" -}}
{{- end -}}
{{- if and .Values.home.existingSecret (not .Values.nodes.authoritySecret) -}}
{{- fail "nodes.enabled needs nodes.authoritySecret where home.existingSecret is given: servers cannot make an authority in a Secret" -}}
{{- end -}}
{{- if and .Values.nodes.authoritySecret (not .Values.home.existingSecret) -}}
{{- fail "nodes.authoritySecret needs home.existingSecret: a server with a home folder of its own makes its authority there" -}}
{{- end -}}
{{- else if .Values.nodes.authoritySecret -}}
{{- fail "nodes.authoritySecret has no effect without nodes.enabled" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas is %v, which is more than autoscaling.maxReplicas, %v" .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if eq (int64 .Values.service.port) (int64 .Values.service.grpcPort) -}}
{{- fail (printf "service.port and service.grpcPort are both %v: a Service has each port once" .Values.service.port) -}}
{{- end -}}
{{- end -}}
