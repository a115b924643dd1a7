import DefaultTheme from 'vitepress/theme'
import { h } from 'vue'

import FenceFigure from './fence-figure.vue'
import './style.css'
import './front-page.css'
import './fence-figure.css'

/** @type {import('vitepress').Theme} */
export default {
  extends: DefaultTheme,
  enhanceApp({ app }) {
    app.component('FenceFigure', FenceFigure)
  },
  Layout: () => h(DefaultTheme.Layout, undefined, { 'home-hero-image': () => h(FenceFigure) }),
}
