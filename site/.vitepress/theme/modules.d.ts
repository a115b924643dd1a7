/** What Vite makes of files that are not JavaScript. */
declare module '*.vue' {
  import { type Component } from 'vue'

  const component: Component
  export default component
}

declare module '*.css'
